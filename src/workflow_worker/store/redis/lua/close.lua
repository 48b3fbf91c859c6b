-- Hands back, uncounted, up to 200 runs of a session and ends it when none is left.
-- keys: prefix
-- args: now session
-- include: _now _when_full _tokens _held _runs _held_runs
-- returns: ok (the session is gone) | more
if not (call('ZSCORE', P .. 'sessions', session) or call('ZSCORE', P .. 'reaping', session)) then return 'ok' end
local refs, all = held_runs(session, 200)
for i = 1, math.min(#refs, 200) do
  local run = call('HMGET', P .. 'run:' .. refs[i], 'token', 'status')
  to_ready(refs[i], session, run[1], run[2], {})
end
keep_highest_token()
if not all or #refs > 200 then return 'more' end
call('DEL', P .. 'held:' .. session)
call('ZREM', P .. 'sessions', session)
call('ZREM', P .. 'reaping', session)
call('ZREM', P .. 'marked', session)
return 'ok'
