-- History and mailbox of a run that the session holds under this token. Read-only.
-- keys: prefix
-- args: now session ref token
-- include: _now _held
-- returns: gone | ok, now, cid, created, start, waits, #records, record…, mail…
local run = call('HMGET', P .. 'run:' .. ref, 'owner', 'token', 'cid', 'created', 'start', 'waits', 'mails')
if run[1] ~= session or run[2] ~= token or not is_held(session) then return { 'gone' } end
local reply = { 'ok', now, run[3] or '', run[4], run[5], run[6] or '', 0 }
local records = call('LRANGE', P .. 'history:' .. ref, 0, -1)
reply[7] = #records
for i = 1, #records do reply[7 + i] = records[i] end
if (run[7] or '0') == '0' then return reply end
local mail = call('LRANGE', P .. 'mailbox:' .. ref, 0, -1)
for i = 1, #mail do reply[#reply + 1] = mail[i] end
return reply
