-- Dead letters from an id on (empty: the first), oldest first. Read-only.
-- keys: prefix
-- args: first last count
-- include:
-- returns: the id of the last one looked at (empty: none), then (id, redriven (1 or 0), fields as in _streams)…
local entries = call('XRANGE', P .. 'dead', first, last, 'COUNT', count)
local reply = { #entries > 0 and entries[#entries][1] or '' }
for i = 1, #entries do
  local id, fields = entries[i][1], entries[i][2]
  if fields[1] == 'reason' and fields[5] == 'run' and fields[9] == 'raw' then
    reply[#reply + 1] = { id, call('ZSCORE', P .. 'redriven', id) and 1 or 0, fields }
  end
end
return reply
