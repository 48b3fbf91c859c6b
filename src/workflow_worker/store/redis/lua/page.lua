-- One page of an index of runs, newest first, filtered. Read-only.
-- keys: prefix
-- args: index offset count status workflow subject
-- include:
-- returns: #looked, ref… (an empty filter fits all)
local refs = call('ZREVRANGE', P .. index, offset, offset + count - 1)
local reply = { #refs }
for i = 1, #refs do
  if workflow == '' or string.sub(refs[i], 1, #workflow + 1) == workflow .. ':' then
    local run = call('HMGET', P .. 'run:' .. refs[i], 'status', 'subject')
    if run[1] and (status == '' or run[1] == status) and (subject == '' or run[2] == subject) then
      reply[#reply + 1] = refs[i]
    end
  end
end
return reply
