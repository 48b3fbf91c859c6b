-- Runs as people see them, at most 200 in a call. Read-only.
-- keys: prefix
-- args: ...
-- include:
-- returns: for each ref an empty list, or the flat fields of its hash with `records` (length of the history) added, and
--   `wake` (its next due time) where it has one
local reply = {}
for i = 1, #ARGV do
  local run = call('HGETALL', P .. 'run:' .. ARGV[i])
  if #run > 0 then
    run[#run + 1], run[#run + 2] = 'records', call('LLEN', P .. 'history:' .. ARGV[i])
    local wake = call('ZSCORE', P .. 'wakes', ARGV[i])
    if wake then run[#run + 1], run[#run + 2] = 'wake', wake end
  end
  reply[i] = run
end
return reply
