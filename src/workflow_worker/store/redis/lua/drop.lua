-- Deletes a dead letter for good.
-- keys: prefix
-- args: now id by
-- include: _now _when_full _streams _acts
-- returns: ok | gone
if not call('XRANGE', P .. 'dead', id, id)[1] then return 'gone' end
note(by, 'drop', id)
call('ZREM', P .. 'redriven', id)
call('XDEL', P .. 'dead', id)
return 'ok'
