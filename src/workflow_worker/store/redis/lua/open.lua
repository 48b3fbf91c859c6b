-- Begins a session. Repeated it changes nothing; one that is being reaped stays as it is.
-- keys: prefix
-- args: now session ttl mark
-- include: _now _when_full
-- returns: the epoch: the mark of whoever opened the first session here
if not call('ZSCORE', P .. 'reaping', session) then
  call('ZADD', P .. 'sessions', 'NX', now + math.floor(ttl * 2 / 3), session)
end
-- No subject is empty. The value of 65 bytes makes a hash of the list that it is while it is small: hundreds of looks
-- in one call are no searches then, which would cost more than all else of an ingest.
call('HSET', P .. 'subjects', '', string.rep('-', 65))
call('SET', P .. 'epoch', mark, 'NX')
return call('GET', P .. 'epoch')
