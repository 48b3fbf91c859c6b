-- Histories and mailboxes of runs that the session holds under these tokens. Read-only. With `most` records and mails
-- read, the runs that are left are not answered.
-- keys: prefix
-- args: now session most ...
-- include: _now _held
-- returns: now, then for each: 0 (gone), or a list: cid, created, start, waits, the list of records, mail…
-- The runs are: ref token…
local reply, read, mine = { now }, 0, is_held(session)
most = tonumber(most)

local function loaded(ref, token)
  local run = call('HMGET', P .. 'run:' .. ref, 'owner', 'token', 'cid', 'created', 'start', 'waits', 'mails')
  if run[1] ~= session or run[2] ~= token then return 0 end
  local records = call('LRANGE', P .. 'history:' .. ref, 0, -1)
  local found = { run[3] or '', run[4], run[5], run[6] or '', records }
  read = read + #records
  if (run[7] or '0') == '0' then return found end
  local mail = call('LRANGE', P .. 'mailbox:' .. ref, 0, -1)
  for i = 1, #mail do found[5 + i] = mail[i] end
  read = read + #mail
  return found
end

for at = 4, #ARGV, 2 do
  if read >= most then break end
  reply[#reply + 1] = mine and loaded(ARGV[at], ARGV[at + 1]) or 0
end
return reply
