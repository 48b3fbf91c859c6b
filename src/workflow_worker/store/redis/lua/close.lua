-- Hands back, uncounted, up to 200 runs of a session and ends it when none is left.
-- keys: prefix
-- args: now session
-- include: _now _tokens _runs
-- returns: ok (the session is gone) | more
if not (call('ZSCORE', P .. 'sessions', session) or call('ZSCORE', P .. 'reaping', session)) then return 'ok' end
local refs = call('HKEYS', P .. 'held:' .. session)
local left = 0
local done = 0
for i = 1, #refs do
  local ref = refs[i]
  if ref ~= '#' then
    if done == 200 then
      left = left + 1
    else
      done = done + 1
      local run = call('HMGET', P .. 'run:' .. ref, 'token', 'status')
      to_ready(ref, session, run[1], run[2], {})
    end
  end
end
keep_highest_token()
if left > 0 then return 'more' end
call('DEL', P .. 'held:' .. session)
call('ZREM', P .. 'sessions', session)
call('ZREM', P .. 'reaping', session)
call('ZREM', P .. 'marked', session)
return 'ok'
