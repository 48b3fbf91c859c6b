-- Hands back up to 200 runs of a session and ends it when none is left: uncounted, or each a takeover if `died` is 1.
-- keys: prefix
-- args: now session died max_takeovers poison
-- include: _now _when_full _tokens _held _streams _runs _take_over _held_runs
-- returns: ok (the session is gone) | more
if not (call('ZSCORE', P .. 'sessions', session) or call('ZSCORE', P .. 'reaping', session)) then return 'ok' end
max_takeovers = tonumber(max_takeovers)
local refs, all = held_runs(session, 200)
local function give_up(ref)
  if died == '1' then return take_over(session, ref) end
  local run = call('HMGET', P .. 'run:' .. ref, 'token', 'status')
  to_ready(ref, session, run[1], run[2], {})
end

for i = 1, math.min(#refs, 200) do
  if not pcall(give_up, refs[i]) then call('HDEL', P .. 'held:' .. session, refs[i]) end
end
keep_highest_token()
if not all or #refs > 200 then return 'more' end
call('DEL', P .. 'held:' .. session)
call('ZREM', P .. 'sessions', session)
call('ZREM', P .. 'reaping', session)
call('ZREM', P .. 'marked', session)
return 'ok'
