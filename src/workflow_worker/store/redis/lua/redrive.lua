-- Sends a dead letter's event again; a run's copy goes to that run alone. The letter stays, marked.
-- keys: prefix
-- args: now id
-- include: _now _again
-- returns: ok | already (also: an entry that can never be taken in) | gone
local letter = call('XRANGE', P .. 'dead', id, id)[1]
if not letter then return 'gone' end
if call('ZSCORE', P .. 'redriven', id) then return 'already' end
return send_again(id, letter[2]) and 'ok' or 'already'
