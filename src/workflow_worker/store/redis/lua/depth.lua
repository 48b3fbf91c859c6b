-- How much waits. Of `ready` the first 1,000 entries are looked at, those behind are taken for valid. Read-only.
-- keys: prefix
-- args:
-- include:
-- returns: events, ready, delayed, dead, sessions, suspended
local ready = call('XLEN', P .. 'ready')
local entries = call('XRANGE', P .. 'ready', '-', '+', 'COUNT', 1000)
for i = 1, #entries do
  local run = call('HMGET', P .. 'run:' .. entries[i][2][2], 'owner', 'token')
  if run[1] ~= 'ready' or run[2] ~= entries[i][2][4] then ready = ready - 1 end
end
return {
  call('XLEN', P .. 'events'),
  ready,
  call('ZCARD', P .. 'delayed'),
  call('XLEN', P .. 'dead') - call('ZCARD', P .. 'redriven'),
  call('ZCARD', P .. 'sessions') + call('ZCARD', P .. 'reaping'),
  call('ZCARD', P .. 'index:suspended'),
}
