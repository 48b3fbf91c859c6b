-- A run's history with what a replay of it needs, as of one moment. Read-only.
-- keys: prefix
-- args: ref
-- include:
-- returns: gone | ok, version, created, start, record…
local run = call('HMGET', P .. 'run:' .. ref, 'version', 'created', 'start')
if not run[3] then return { 'gone' } end
local reply = { 'ok', run[1], run[2], run[3] }
local records = call('LRANGE', P .. 'history:' .. ref, 0, -1)
for i = 1, #records do reply[4 + i] = records[i] end
return reply
