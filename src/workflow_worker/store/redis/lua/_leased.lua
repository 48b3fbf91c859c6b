-- What a holder is told of its run, appended to a flat reply. A run that was just made: ref, token, start, version.
-- Any other: ref, token, empty, version, cid, created, strikes, start (empty once the run has a commit), #mail, mail…
local function tell_leased(reply, run)
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = run.ref, run.token, run.start or '', run.version
  if run.start and run.mails == 0 then return end
  local start = run.start or run.cid == '' and call('HGET', P .. 'run:' .. run.ref, 'start') or ''
  reply[n + 3], reply[n + 5], reply[n + 6], reply[n + 7] = '', run.cid, run.created, run.strikes or '0'
  reply[n + 8], reply[n + 9] = start, run.mails
  if run.mails > 0 then
    local mail = #run.mail == run.mails and run.mail or call('LRANGE', P .. 'mailbox:' .. run.ref, 0, -1)
    for i = 1, #mail do reply[n + 9 + i] = mail[i] end
  end
end
