-- What a holder is told of its run, appended to a flat reply:
-- ref, token, cid, version, created, strikes, start (empty once the run has a commit), #mail, mail…
local function tell_leased(reply, run)
  local start = run.cid == '' and (run.start or call('HGET', P .. 'run:' .. run.ref, 'start')) or ''
  local n = #reply
  reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = run.ref, run.token, run.cid, run.version
  reply[n + 5], reply[n + 6], reply[n + 7], reply[n + 8] = run.created, run.strikes or '0', start, run.mails
  if run.mails > 0 then
    local mail = #run.mail == run.mails and run.mail or call('LRANGE', P .. 'mailbox:' .. run.ref, 0, -1)
    for i = 1, #mail do reply[n + 8 + i] = mail[i] end
  end
end
