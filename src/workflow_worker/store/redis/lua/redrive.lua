-- Sends a dead letter's event again; a run's copy goes to that run alone. The letter stays, marked.
-- keys: prefix
-- args: now id by
-- include: _now _streams _again _acts
-- returns: ok | already (also: an entry that can never be taken in) | gone
local letter = call('XRANGE', P .. 'dead', id, id)[1]
if not letter then return 'gone' end
if call('ZSCORE', P .. 'redriven', id) then return 'already' end
call('XLEN', P .. 'events')
local fields = fields_of(letter[2])
if not fields or #fields > 6000 then return 'already' end
note(by, 'redrive', id)
return send_again(id, letter[2], fields) and 'ok' or 'already'
