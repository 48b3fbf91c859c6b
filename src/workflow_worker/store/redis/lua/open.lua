-- Begins a session. Repeated it changes nothing; one that is being reaped stays as it is.
-- keys: prefix
-- args: now session ttl epoch
-- include: _now _when_full
-- returns: ok
if not call('ZSCORE', P .. 'reaping', session) then
  call('ZADD', P .. 'sessions', 'NX', now + math.floor(ttl * 2 / 3), session)
end
call('SET', P .. 'epoch', epoch, 'NX')
return 'ok'
