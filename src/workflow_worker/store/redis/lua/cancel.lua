-- Puts a cancel request into the mailbox, one per run and above any cap. A holder gets a hint; a run that no session
-- holds goes to `ready`, a suspended one is `running` again.
-- keys: prefix
-- args: now ref kind data by reason
-- include: _now _when_full _tokens _held _streams _acts _runs
-- returns: ok | already | gone
local key = P .. 'run:' .. ref
local run = call('HMGET', key, 'owner', 'token', 'status', 'cancel')
local status = run[3]
if not status then return 'gone' end
if run[4] or status == 'completed' or status == 'failed' or status == 'cancelled' then return 'already' end
call('LLEN', P .. 'mailbox:' .. ref)
note(by, 'cancel', ref, reason)
local entry = string.format('%.0f-c%.0f', now, call('HINCRBY', P .. 'stat', 'cancels', 1))
call('RPUSH', P .. 'mailbox:' .. ref, cmsgpack.pack({ entry, 'id', entry, 'type', kind, 'data', data }))
call('HINCRBY', key, 'mails', 1)
call('HINCRBY', P .. 'stat', 'deliveries', 1)
call('HSET', key, 'cancel', 1)
if is_held(run[1]) then
  call('PUBLISH', P .. 'hint:' .. run[1], ref)
  return 'ok'
end
if status == 'suspended' then
  call('HDEL', key, 'error')
  call('ZREM', P .. 'index:suspended', ref)
  to_ready(ref, run[1], run[2], 'running', { 'status', 'running', 'strikes', 0 })
else
  to_ready(ref, run[1], run[2], status, {})
end
keep_highest_token()
return 'ok'
