-- What a commit is going to touch besides its run's hash, looked at before its first write: a key of another type, or a
-- value that nobody can read, raises here, and the step is refused whole. Needs _waits.
local function check_rejects()
  call('XLEN', P .. 'dead')
  local reasons, letters = {}, {}
  for i = c.rejects, c.rejects + 2 * c.n_rejects - 2, 2 do reasons[ARGV[i]] = ARGV[i + 1] end
  local mail = c.taken > 0 and call('LRANGE', P .. 'mailbox:' .. c.ref, 0, c.taken - 1) or {}
  for i = 1, #mail do
    local item = cmsgpack.unpack(mail[i])
    if reasons[item[1]] then letters[#letters + 1] = { item, reasons[item[1]], false } end
  end
  if reasons.start then
    letters[#letters + 1] = { cmsgpack.unpack(call('HGET', P .. 'run:' .. c.ref, 'start')), reasons.start, true }
  end
  c.letters = letters
end

local function check_emits()
  call('XLEN', P .. 'events')
  call('ZCARD', P .. 'delayed')
  call('HLEN', P .. 'delayed:entries')
  local run = call('HMGET', P .. 'run:' .. c.ref, 'emitted', 'start')
  local item, start_id = cmsgpack.unpack(run[2]), nil
  for i = 2, #item - 1, 2 do
    if item[i] == 'id' then start_id = item[i + 1] end
  end
  if not start_id or start_id == '' then start_id = item[1] end
  c.emitted, c.start_id = tonumber(run[1] or 0), start_id
end

-- `late`: the run leaves its waits with its end.
local function check_waits(packed, late)
  local waits = packed and cmsgpack.unpack(packed) or {}
  c.wait_list, c.early = waits, {}
  call('SCARD', P .. 'waiting')
  call('LLEN', P .. 'mailbox:' .. c.ref)
  if late then
    for i = 1, #waits, 2 do call('SCARD', P .. 'waits:' .. wait_name(waits[i], waits[i + 1])) end
    return
  end
  for i = c.added, c.emits - 1, 2 do
    local many = call('SCARD', P .. 'waits:' .. wait_name(ARGV[i], ARGV[i + 1]))
    c.crowded = c.crowded or i < c.removed and many >= waits_cap and not place_of(waits, ARGV[i], ARGV[i + 1])
  end
  if c.crowded then
    call('ZCARD', P .. 'index:suspended')
    if not off[c.shape.held] then call('HLEN', c.shape.held) end
  end
  for i = c.added, c.removed - 1, 2 do
    local kept = call('LRANGE', P .. 'early:' .. ARGV[i + 1], 0, -1)
    for j = 1, #kept do kept[j] = cmsgpack.unpack(kept[j]) end
    if #kept > 0 then call('XLEN', P .. 'dead') end
    c.early[ARGV[i + 1]] = kept
  end
end

-- What the ends and releases of one call share is looked at with the first of them.
local function check_end(subject, ends)
  if not off[c.shape.held] then call('HLEN', c.shape.held) end
  if ends then
    if #ended == 0 then call('ZCARD', P .. 'index:ended') end
    if subject and #ends_of == 0 then call('HLEN', P .. 'subjects') end
  elseif #wakes == 0 then
    call('ZCARD', P .. 'wakes')
  end
end

-- `mails`: how much mail the run has. A suspended run, before or after, stands in an index of its own.
local function check(waits, subject, mails, suspended)
  local refused = c.more and c.refused
  local ends = c.shape.mode == 'end' or refused
  if ends or c.shape.mode == 'release' then check_end(subject, ends) end
  if mails > 0 and c.taken == 0 then call('LLEN', P .. 'mailbox:' .. c.ref) end
  if suspended then call('ZCARD', P .. 'index:suspended') end
  if ends and waits then check_waits(waits, true) end
  if not c.more then return end
  if c.restart ~= '' then call('LLEN', P .. 'history:' .. c.ref) end
  if c.n_rejects > 0 then check_rejects() end
  if c.n_emits > 0 then check_emits() end
  if not ends and c.waits > 0 then check_waits(waits, false) end
end
