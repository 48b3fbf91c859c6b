-- Pushes a session's expiry ahead and compares what it holds with what the worker knows. Never re-creates a session.
-- It looks at all that the session holds, because a difference must be seen whole: the worker's own limits cap that
-- (CONCURRENCY_LIMIT executing, BATCH_SIZE leased and not started), at about 1 µs a run every fifth of LEASE_TTL_MS.
-- keys: prefix
-- args: now session ttl ...
-- include: _now _when_full
-- returns: lost | ok, now, #lost, (ref, token)…, #unknown, (ref, token)…, ref with mail…
if not call('ZSCORE', P .. 'sessions', session) then return { 'lost' } end
call('ZADD', P .. 'sessions', now + math.floor(ttl * 2 / 3), session)
call('ZREM', P .. 'marked', session)
local token_of, unknown, mail = {}, {}, {}
local refs = call('HKEYS', P .. 'held:' .. session)
for i = 1, #refs do
  local ref = refs[i]
  if ref ~= '#' then
    local run = call('HMGET', P .. 'run:' .. ref, 'token', 'mails')
    token_of[ref] = run[1]
    if (run[2] or '0') ~= '0' then mail[#mail + 1] = ref end
  end
end
local lost, named = {}, {}
for i = 4, #ARGV, 2 do
  local ref, token = ARGV[i], ARGV[i + 1]
  if token_of[ref] == token then
    named[ref] = true
  else
    lost[#lost + 1] = ref
    lost[#lost + 1] = token
  end
end
for i = 1, #refs do
  local ref = refs[i]
  if token_of[ref] and not named[ref] then
    unknown[#unknown + 1] = ref
    unknown[#unknown + 1] = token_of[ref]
  end
end
local reply = { 'ok', now, #lost / 2 }
for i = 1, #lost do reply[#reply + 1] = lost[i] end
reply[#reply + 1] = #unknown / 2
for i = 1, #unknown do reply[#reply + 1] = unknown[i] end
for i = 1, #mail do reply[#reply + 1] = mail[i] end
return reply
