-- Taking a run from a dead worker: counted, and one whose holders die again and again without a record is a poison pill
-- and suspended. Needs _now, _tokens, _runs; numbers: max_takeovers.
local function take_over(session, ref)
  local run = call('HMGET', P .. 'run:' .. ref, 'token', 'status', 'takeovers', 'strikes', 'created', 'born')
  local strikes, status = tonumber(run[4] or 0) + 1, run[2]
  local fields = { 'takeovers', tonumber(run[3] or 0) + 1, 'strikes', strikes }
  if strikes > max_takeovers then
    status = 'suspended'
    call('ZADD', P .. 'index:suspended', run[6] or run[5], ref)
    for _, part in ipairs({ 'status', status, 'error', poison, 'updated', now }) do fields[#fields + 1] = part end
  end
  to_ready(ref, session, run[1], status, fields)
  call('HINCRBY', P .. 'stat', 'takeovers', 1)
end
