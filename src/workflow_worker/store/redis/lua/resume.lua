-- Lets a suspended run go on: a record under a fresh commit id, which makes every cached copy unfit.
-- keys: prefix
-- args: now ref record by
-- include: _now _when_full _tokens _held _streams _acts _runs
-- returns: ok | already | gone
local key = P .. 'run:' .. ref
local run = call('HMGET', key, 'owner', 'token', 'status')
if not run[3] then return 'gone' end
if run[3] ~= 'suspended' then return 'already' end
call('LLEN', P .. 'history:' .. ref)
call('ZCARD', P .. 'index:suspended')
note(by, 'resume', ref)
call('RPUSH', P .. 'history:' .. ref, record)
call('HDEL', key, 'error')
call('ZREM', P .. 'index:suspended', ref)
local token = to_ready(ref, run[1], run[2], 'running', { 'status', 'running', 'strikes', 0, 'updated', now })
call('HSET', key, 'cid', string.format('operator/%.0f', token))
keep_highest_token()
return 'ok'
