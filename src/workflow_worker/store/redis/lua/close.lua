-- Hands back up to 200 runs of a session and ends it when none is left: uncounted, or each a takeover if `died` is 1.
-- keys: prefix
-- args: now session died max_takeovers poison
-- include: _now _when_full _tokens _held _runs _take_over _held_runs
-- returns: ok (the session is gone) | more
if not (call('ZSCORE', P .. 'sessions', session) or call('ZSCORE', P .. 'reaping', session)) then return 'ok' end
max_takeovers = tonumber(max_takeovers)
local refs, all = held_runs(session, 200)
for i = 1, math.min(#refs, 200) do
  if died == '1' then
    take_over(session, refs[i])
  else
    local run = call('HMGET', P .. 'run:' .. refs[i], 'token', 'status')
    to_ready(refs[i], session, run[1], run[2], {})
  end
end
keep_highest_token()
if not all or #refs > 200 then return 'more' end
call('DEL', P .. 'held:' .. session)
call('ZREM', P .. 'sessions', session)
call('ZREM', P .. 'reaping', session)
call('ZREM', P .. 'marked', session)
return 'ok'
