-- Gives a held run up, uncounted: to `ready`, or parked until a wake.
-- keys: prefix
-- args: now session ref token delay
-- include: _now _when_full _tokens _held _streams _runs
-- returns: ok | fenced
local run = call('HMGET', P .. 'run:' .. ref, 'owner', 'token', 'status')
if run[1] ~= session or run[2] ~= token or not is_held(session) then return 'fenced' end
delay = tonumber(delay)
if delay <= 0 then
  to_ready(ref, session, token, run[3], {})
else
  call('HSET', P .. 'run:' .. ref, 'owner', 'parked', 'token', raise_token(token))
  call('HDEL', P .. 'held:' .. session, ref)
  call('ZADD', P .. 'wakes', now + delay, ref)
end
keep_highest_token()
return 'ok'
