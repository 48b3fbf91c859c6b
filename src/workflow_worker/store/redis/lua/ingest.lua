-- Takes ready runs, then reads, routes and delivers the oldest events and leases what there is room for.
-- Everything is decided before the first write. An entry on which that raises (a stranger's bytes, a key of another
-- type) goes raw to `dead`, and the plan is made anew without it; what raises beside any entry changes nothing, and the
-- caller may have the head quarantined. An entry leaves the stream in the call that gives it its fate.
-- keys: prefix
-- args: now session number room mark cursor quarantine reason
-- args: max_bytes envelope mail_cap cap_bytes early_cap subject_cap early_ttl names copies_cap internal_bytes
-- include: _now _when_full _tokens _streams _held _caps _routes _template _subjects
-- returns: lost | stale | unregistered | ok or again, now, cursor, #read, routed, early, duplicate, dead,
-- #letters, (id, reason, type, run)…, #runs, then as in _leased for each run
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
cap_bytes, copies_cap, envelope = tonumber(cap_bytes), tonumber(copies_cap), tonumber(envelope)
local max_name, events = tonumber(names), P .. 'events'
-- include: _utf8 _ingest_read
local any = call('EXISTS', P .. 'deadlines', P .. 'waiting')
local any_early = any > 0 and call('EXISTS', P .. 'deadlines') == 1
local any_waits = any == 2 or any == 1 and not any_early
-- include: _ingest_plan _ingest_room _ingest_route _ingest_take _ingest_write _leased
begin_plan()

local function answer(word, cursor, read, told, found)
  local reply = { word, now, cursor, read, routed, counts.early or 0, counts.duplicate or 0,
    counts.dead or 0, #told / 4, unpack(told) }
  reply[#reply + 1] = #found
  for i = 1, #found do tell_leased(reply, found[i]) end
  return reply
end

if number == last then
  local refs, found = call('HGETALL', held_key), {}
  for i = 1, #refs, 2 do
    if refs[i] ~= '#' and tonumber(refs[i + 1]) == number then found[#found + 1] = run_of(refs[i]) end
  end
  call('HINCRBY', P .. 'stat', 'again', 1)
  return answer('again', cursor, 0, {}, found)
end

local function write_all(read)
  local told = write_plan()
  if #seen > 0 then call('SADD', P .. 'seen:new', unpack(seen)) end
  if #gone > 0 then call('XDEL', P .. 'ready', unpack(gone)) end
  if read > 0 then call('XTRIM', events, 'MAXLEN', call('XLEN', events) - read) end
  return told
end

if quarantine == '1' then
  local head, refusals = read_all(call('XRANGE', events, '-', '+', 'COUNT', 1))
  if head[1] then settle(head[1], refusals[1] or 'quarantined: ' .. reason) end
  return answer('ok', cursor, #head, write_all(#head), {})
end

local entries, most, said, failed, entry = nil, 200, {}, 0, 0

-- Decides as many entries as there is room for, or fewer when they make too many copies. Returns how many.
local function plan()
  begin_plan()
  entry = 0
  if room > 0 then take_ready() end
  if room <= #leased then return 0 end
  entries = entries or call('XRANGE', events, '-', '+', 'COUNT', room - #leased)
  local taken, refusals = read_all(entries)
  for i = 1, #taken do
    entry = i
    if not refusals[i] then refusals[i] = said[i] or refuse(taken[i]) or false end
  end
  entry = 0
  look_ahead(taken)
  for i = 1, math.min(#taken, most) do
    local found, refusal = taken[i], refusals[i]
    entry = i
    if not refusal then
      if found.copy then refusal = to_its_run(found) else refusal = to_everyone(found) end
    end
    settle(found, refusal)
    if (counts.deliveries or 0) + #letters - (counts.dead or 0) >= copies_cap then return i end
  end
  return math.min(#taken, most)
end

local function text_of(problem)
  local text = type(problem) == 'table' and problem.err or tostring(problem)
  return 'unreadable: ' .. string.gsub(text, '%s*script: .*$', '')
end

local ok, read
repeat
  ok, read = pcall(plan)
  if not ok then
    if entry == 0 or said[entry] then error(read, 0) end
    said[entry] = text_of(read)
    failed = failed + 1
    if failed == 8 then most = entry end
  end
until ok
return answer('ok', at, read, write_all(read), leased)
