-- Deletes a dead letter for good.
-- keys: prefix
-- args: now id
-- include:
-- returns: ok | gone
call('ZREM', P .. 'redriven', id)
return call('XDEL', P .. 'dead', id) == 1 and 'ok' or 'gone'
