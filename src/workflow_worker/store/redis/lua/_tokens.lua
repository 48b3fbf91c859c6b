-- Fencing tokens: above the run's own, above all of the partition, not below the clock in microseconds (R7). They are
-- numbers here: commands get all digits of one below 2^53, but `..` and `tostring` would write 1.7e+15.
local highest

local function raise_token(own)
  highest = (highest or math.max(tonumber(call('HGET', P .. 'stat', 'token') or 0), now * 1000 - 1)) + 1
  own = tonumber(own)
  if own and own >= highest then highest = own + 1 end
  return highest
end

local function keep_highest_token()
  if highest then call('HSET', P .. 'stat', 'token', highest) end
end
