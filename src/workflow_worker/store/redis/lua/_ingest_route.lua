-- One entry's recipients: one copy each, however many ways lead there. Nothing is written here.
local function packed(found)
  if not found.item then
    local f = found.fields
    if found.plain and found.subject then
      found.item = cmsgpack.pack({ found.entry, 'id', f[4], 'type', f[6], 'subject', f[8], 'data', f[10] })
    elseif found.plain then
      found.item = cmsgpack.pack({ found.entry, 'id', f[4], 'type', f[6], 'data', f[8] })
    elseif #f <= 4000 then
      found.item = cmsgpack.pack({ found.entry, unpack(found.fields) })
    else
      table.insert(found.fields, 1, found.entry)
      found.item = cmsgpack.pack(found.fields)
      table.remove(found.fields, 1)
    end
  end
  return found.item
end

-- `got` counts who had the entry; the run remembers its last one.
local function deliver(found, run)
  run.last = found
  found.got = found.got + 1
  if not put(run, packed(found), found.fields, 1, found.internal) then return end
  if is_held(run.owner) then
    if not run.leased then hints[#hints + 1] = run end
  elseif run.owner ~= 'parked' then
    place(run)
  end
end

-- An early item: deadline, type, packed entry, runs that had it.
-- Every run that one entry creates gets its own copy of the early events, but for those that its own wait had.
local function take_early(found, run)
  local list = found.claimed
  if not list then
    local kept = early_of(found.subject)
    list = kept.stored > 0 and call('LRANGE', P .. 'early:' .. found.subject, 0, -1) or {}
    for i = 1, #kept.added do list[#list + 1] = kept.added[i] end
    if kept.stored > 0 then kept.claimed = true end
    kept.stored, kept.added, kept.weight = 0, {}, 0
    for i = 1, #list do list[i] = cmsgpack.unpack(list[i]) end
    count('claimed', #list)
    found.claimed = list
  end
  for i = 1, #list do
    local had = false
    for j = 4, #list[i] do had = had or list[i][j] == run.ref end
    if not had then put(run, list[i][3], nil, 2, string.sub(list[i][2], 1, 3) == 'ww.') end
  end
end

-- A new run, or a new incarnation of an ended one, whose token goes on rising.
local function create(found, ref, start, old)
  local subject = found.subject
  found.got = found.got + 1
  local live = subject and live_runs(subject)
  if live and #live >= subject_cap then
    return plan_letter(found.fields, 1, 'too many: live runs of the subject', ref, true)
  end
  if old then purged[#purged + 1] = ref end
  if not start.kind then start.text, start.kind = tostring(start[2]), start[1] .. '@' .. start[2] end
  local run = { ref = ref, status = 'pending', version = start.text, kind = start.kind, owner = '',
    token = raise_token(old and old.token), cid = '', mails = 0, created = now, mail = NO_MAIL,
    start = packed(found), subject = subject, last = found, touched = false, leased = false, weight = false }
  runs[ref] = run
  born[#born + 1] = run
  touch(run)
  if live then
    live[#live + 1], live.changed = ref, true
    if any_early or early[subject] then take_early(found, run) end
  end
  place(run)
end

-- A redriven copy: for its run alone. A start event creates the run when it is missing or ended by a rejected start.
local function to_its_run(found)
  local ref, may_start = found.copy[1], found.copy[2]
  local run = run_of(ref)
  if run and not is_ended(run) then return deliver(found, run) end
  local start = may_start and start_of(find_route(found.type), string.match(ref, '^[^:]*'))
  if not start or (run and not run.rejected) then return run and 'run ended' or 'no such run' end
  create(found, ref, start, run)
end

-- Returns the refusal; nil when the entry was delivered or is early. What one run sends another is nobody else's: the
-- start events of children, which may share one subject, would make as many copies as they are, squared.
local function to_everyone(found)
  local subject, ended, targets = found.subject, false, found.targets
  for i = 1, #targets, 2 do
    local start, ref = targets[i], targets[i + 1]
    local run = run_of(ref)
    if run and not is_ended(run) then
      if run.last ~= found then deliver(found, run) end
    elseif not start then
      if found.internal then return 'dropped' end
      return run and 'run ended' or 'no such run'
    elseif not run or start[4] or run.rejected then
      create(found, ref, start, run)
    else
      ended = true
    end
  end
  local direct = found.got > 0 or ended or found.address
  if subject and not found.internal then
    local live = live_runs(subject)
    for i = 1, #live do
      local run = run_of(live[i])
      if run and run.last ~= found then deliver(found, run) end
    end
    local had = {}
    if any_waits then
      local waiting = call('SMEMBERS', P .. 'waits:' .. #found.type .. ':' .. found.type .. ':' .. subject)
      table.sort(waiting)
      for i = 1, #waiting do
        local run = run_of(waiting[i])
        if run and run.last ~= found then
          deliver(found, run)
          had[#had + 1] = run.ref
        end
      end
    end
    local beside = #had > 0 and not direct and #live == 0
    if beside and keep_early(found, packed(found), had) then count('kept') end
  end
  if found.got > 0 then return end
  if ended then return 'duplicate' end
  if not subject then return 'nobody can receive it' end
  if not keep_early(found, packed(found), {}) then return 'too many: early events of the subject' end
end
