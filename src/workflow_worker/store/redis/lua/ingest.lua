-- Takes ready runs, then reads, routes and delivers the oldest events and leases what there is room for.
-- Everything is decided before the first write: whatever raises, a stranger's bytes included, changes nothing, and the
-- caller may have the head entry quarantined. An entry leaves the stream in the call that gives it its fate.
-- keys: prefix
-- args: now session number room mark cursor quarantine reason max_bytes mail_cap early_cap subject_cap early_ttl names
-- include: _now _tokens _dead _held _routes _template _subjects
-- returns: lost | stale | unregistered | ok or again, now, cursor, #read, #runs, then as in _leased for each run
local held_key = P .. 'held:' .. session
if not call('ZSCORE', P .. 'sessions', session) then return { 'lost' } end
number = tonumber(number)
local last = tonumber(call('HGET', held_key, '#') or 0)
if number < last then return { 'stale' } end
local known = call('HGET', P .. 'routes', '#' .. mark)
if number > last and not known then return { 'unregistered' } end
local knows = {}
for _, kind in ipairs(known and cmsgpack.unpack(known) or {}) do knows[kind] = true end
room, max_bytes, mail_cap = tonumber(room), tonumber(max_bytes), tonumber(mail_cap)
early_cap, subject_cap, early_ttl = tonumber(early_cap), tonumber(subject_cap), tonumber(early_ttl)
local max_name = tonumber(names)
-- include: _ingest_read
local any_early = call('EXISTS', P .. 'deadlines') == 1
local any_waits = call('EXISTS', P .. 'waiting') == 1
-- include: _ingest_plan _ingest_route _ingest_write _leased
local function answer(word, at, read, found)
  local reply = { word, now, at, read, #found }
  for i = 1, #found do tell_leased(reply, found[i]) end
  return reply
end

if number == last then
  local refs, found = call('HGETALL', held_key), {}
  for i = 1, #refs, 2 do
    if refs[i] ~= '#' and tonumber(refs[i + 1]) == number then found[#found + 1] = run_of(refs[i]) end
  end
  call('HINCRBY', P .. 'stat', 'again', 1)
  return answer('again', cursor, 0, found)
end

-- Reads what was taken; a bare id that was seen is a duplicate, another will be remembered.
local function read_all(taken)
  local refusals, ids, places = {}, {}, {}
  for i = 1, #taken do
    taken[i], refusals[i] = read_entry(taken[i][1], taken[i][2]), false
    local id = taken[i].id
    if id and not taken[i].via then
      if places[id] then
        refusals[i] = 'duplicate'
      else
        places[id] = i
        ids[#ids + 1] = id
      end
    end
  end
  if #ids == 0 then return refusals end
  local new, old = call('SMISMEMBER', P .. 'seen:new', unpack(ids)), call('SMISMEMBER', P .. 'seen:old', unpack(ids))
  for i = 1, #ids do
    if new[i] == 1 or old[i] == 1 then refusals[places[ids[i]]] = 'duplicate' else seen[#seen + 1] = ids[i] end
  end
  return refusals
end

local function settle(found, refusal)
  count('ingested')
  if not refusal then return count(#found.got > 0 and 'routed' or 'early') end
  if refusal == 'duplicate' then return count('duplicate') end
  count('dead')
  plan_letter(found.fields, 1, refusal, found.alone, found.may_start)
end

local events = P .. 'events'
local function write_all(taken, gone)
  write_plan()
  if #seen > 0 then call('SADD', P .. 'seen:new', unpack(seen)) end
  if #gone > 0 then call('XDEL', P .. 'ready', unpack(gone)) end
  if #taken > 0 then call('XTRIM', events, 'MAXLEN', call('XLEN', events) - #taken) end
end

if quarantine == '1' then
  local head = call('XRANGE', events, '-', '+', 'COUNT', 1)
  local refusals = read_all(head)
  if head[1] then settle(head[1], refusals[1] or 'quarantined: ' .. reason) end
  write_all(head, {})
  return answer('ok', cursor, #head, {})
end

local looked, gone, at = {}, {}, '0'
if room > 0 then
  looked = call('XRANGE', P .. 'ready', cursor == '0' and '-' or '(' .. cursor, '+', 'COUNT', 4 * room)
  if #looked == 4 * room then at = looked[#looked][1] end
end
for i = 1, #looked do
  if #leased >= room then
    at = looked[i - 1][1]
    break
  end
  local run = run_of(looked[i][2][2])
  if not run or run.owner ~= 'ready' or run.token ~= looked[i][2][4] then
    gone[#gone + 1] = looked[i][1]
  elseif knows[run.kind] then
    gone[#gone + 1] = looked[i][1]
    lease(run)
  end
end

local taken = {}
if room > #leased then taken = call('XRANGE', events, '-', '+', 'COUNT', room - #leased) end
local refusals = read_all(taken)
for i = 1, #taken do refusals[i] = refusals[i] or refuse(taken[i]) end
look_ahead(taken)
for i = 1, #taken do
  local found, refusal = taken[i], refusals[i]
  if not refusal then
    if found.alone then refusal = to_its_run(found) else refusal = to_everyone(found) end
  end
  settle(found, refusal)
end
write_all(taken, gone)
return answer('ok', at, #taken, leased)
