-- What one ingest is going to write, collected while it only reads; _ingest_write performs it. A plan whose making
-- raised is thrown away whole, and made anew without the entry at fault.
local runs, touched, leased, ready, wakes_off, hints, gone, at
local letters, counts, subjects, early, born, purged, seen
local ingested, routed = 0, 0
local NO_MAIL = {}

local function begin_plan()
  runs, touched, leased, ready, wakes_off, hints, gone, at = {}, {}, {}, {}, {}, {}, {}, '0'
  letters, counts, subjects, early, born, purged, seen, highest = {}, {}, {}, {}, {}, {}, {}, nil
  ingested, routed = 0, 0
end

local function count(name, by)
  counts[name] = (counts[name] or 0) + (by or 1)
end

-- One run as it will be: read from its hash at the first mention. Nil if there is none.
local function run_of(ref)
  local run = runs[ref]
  if run == nil then
    local h = call('HMGET', P .. 'run:' .. ref, 'status', 'version', 'owner', 'token', 'cid', 'mails', 'strikes',
      'created', 'rejected')
    run = h[1] and { ref = ref, status = h[1], kind = string.match(ref, '^[^:]*') .. '@' .. h[2], version = h[2],
      owner = h[3], token = h[4], cid = h[5] or '', mails = tonumber(h[6] or 0), strikes = h[7] or '0',
      created = h[8], rejected = h[9], mail = NO_MAIL, start = false, last = false, touched = false,
      leased = false, weight = false }
    runs[ref] = run
  end
  return run or nil
end

-- What the entries of one call are about, in two looks instead of two for each: the runs that they start, when none is
-- there yet, and the live runs of their subjects.
local function look_ahead(entries)
  local keys, refs, names = {}, {}, {}
  for i = 1, #entries do
    local targets, subject = entries[i].targets, entries[i].subject
    if targets then
      for j = 2, #targets, 2 do
        if runs[targets[j]] == nil then
          keys[#keys + 1], refs[#refs + 1] = P .. 'run:' .. targets[j], targets[j]
        end
      end
      if subject and not subjects[subject] then
        subjects[subject] = true
        names[#names + 1] = subject
      end
    end
  end
  if #keys > 0 and #keys <= 4000 and call('EXISTS', unpack(keys)) == 0 then
    for i = 1, #refs do runs[refs[i]] = false end
  end
  local lists = #names > 0 and call('HMGET', P .. 'subjects', unpack(names)) or {}
  for i = 1, #names do subjects[names[i]] = lists[i] or {} end
end

-- The live runs of a subject; unpacked at the first mention, for that may raise.
local function live_runs(subject)
  local live = subjects[subject]
  if type(live) == 'string' then
    live = live_of(live)
    subjects[subject] = live
  end
  return live
end

local function is_ended(run)
  return run.status == 'completed' or run.status == 'failed' or run.status == 'cancelled'
end

local function touch(run)
  if not run.touched then
    run.touched = true
    touched[#touched + 1] = run
  end
end

local function lease(run)
  if not run.start then wakes_off[#wakes_off + 1] = run.ref end
  run.token, run.owner, run.leased = raise_token(run.token), session, true
  leased[#leased + 1] = run
  touch(run)
end

-- A run with something to do that nobody holds: leased where there is room, else once in `ready`.
local function place(run)
  if run.status == 'suspended' then return end
  if #leased < room and knows[run.kind] then
    lease(run)
  elseif run.owner ~= 'ready' then
    if not run.start then wakes_off[#wakes_off + 1] = run.ref end
    run.owner = 'ready'
    ready[#ready + 1] = run
    touch(run)
  end
end
