-- Fencing tokens: above the run's own, above all of the partition, not below the clock in microseconds (R7).
local highest

local function raise_token(own)
  highest = highest or tonumber(call('HGET', P .. 'stat', 'token') or 0)
  highest = math.max((tonumber(own) or 0) + 1, highest + 1, now * 1000)
  return string.format('%.0f', highest)
end

local function keep_highest_token()
  if highest then call('HSET', P .. 'stat', 'token', string.format('%.0f', highest)) end
end
