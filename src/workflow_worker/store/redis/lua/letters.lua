-- Dead letters from an id on (empty: the first), oldest first. Read-only.
-- keys: prefix
-- args: first last count
-- include:
-- returns: (id, redriven (1 or 0), fields as in _dead)…
local entries = call('XRANGE', P .. 'dead', first, last, 'COUNT', count)
local reply = {}
for i = 1, #entries do
  local again = call('ZSCORE', P .. 'redriven', entries[i][1])
  reply[i] = { entries[i][1], again and 1 or 0, entries[i][2] }
end
return reply
