-- Writes down what a person did by other means than a verb of its own. Said again within a minute, and nothing else
-- between, it was said once: an answer was lost.
-- keys: prefix
-- args: now by act on more
-- include: _now _when_full _streams _acts
-- returns: ok | already
local newest = call('XREVRANGE', P .. 'audit:log', '+', '-', 'COUNT', 1)[1]
if newest then
  local f = newest[2]
  local same = f[4] == by and f[6] == act and f[8] == on and f[10] == more
  if same and now - (tonumber(f[2]) or 0) <= 60000 then return 'already' end
end
note(by, act, on, more)
return 'ok'
