-- What a commit changes that most do not. Needs the counters `recorded` and `deliveries`.
-- The fields that the commit sets, behind others: the last word on a name counts.
local function with_values(changes)
  local names, n = c.shape.names, #changes
  for i = 1, #names do changes[n + 2 * i - 1], changes[n + 2 * i] = names[i], ARGV[c.values + i - 1] end
  return changes
end

-- What a commit changes besides what each does, as names and values. Returns them, and the run's status, mode
-- and mail.
local function write_more(key, run, mails)
  local shape, changes = c.shape, {}
  local status, mode = shape.status, shape.mode
  local function set(name, value) changes[#changes + 1], changes[#changes + 2] = name, value end
  if c.more then
    if c.refused then
      status, mode = 'failed', 'end'
      set('rejected', 1)
    end
    if c.n_rejects > 0 then bury_rejects() end
    if c.taken > 0 then
      call('LTRIM', P .. 'mailbox:' .. c.ref, c.taken, -1)
      mails, recorded = mails - c.taken, recorded + c.taken
    end
  end
  if run[6] and run[6] ~= '0' and shape.records > 0 then set('strikes', 0) end
  if shape.attempts > 0 then set('attempts', (run[9] or 0) + shape.attempts) end
  if c.wait_list then
    local waits, copies = change_waits(mails, mode == 'end')
    set('waits', waits)
    mails, deliveries = mails + copies, deliveries + copies
  end
  if c.more and c.n_emits > 0 then set('emitted', emit()) end
  if mode == 'release' and mails > 0 then mode = 'keep' end
  if c.crowded then status, mode = 'suspended', 'release' end
  if mails ~= tonumber(run[5] or 0) then set('mails', mails) end
  if status == 'suspended' then
    local since = call('HMGET', key, 'born', 'created')
    call('ZADD', P .. 'index:suspended', since[1] or since[2], c.ref)
  elseif run[4] == 'suspended' then
    call('ZREM', P .. 'index:suspended', c.ref)
  end
  if c.more and c.restart ~= '' then
    for _, name in ipairs({ 'attempts', 'strikes', 'emitted' }) do set(name, 0) end
    begin_again(key, set)
  end
  with_values(changes)
  if c.crowded then set('error', crowded) end
  return changes, status, mode, mails
end
