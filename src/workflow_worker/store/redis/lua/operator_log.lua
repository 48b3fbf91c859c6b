-- What people did, newest first. Read-only.
-- keys: prefix
-- args: count
-- include:
-- returns: fields as in _acts for each
local entries, reply = call('XREVRANGE', P .. 'audit:log', '+', '-', 'COUNT', count), {}
for i = 1, #entries do reply[i] = entries[i][2] end
return reply
