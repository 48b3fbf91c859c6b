-- Server's time in milliseconds, unless a test build passed its own. Commands are given the text: writing a number out
-- costs as much as a field of a hash.
if now == '' then
  local time = call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
else
  now = tonumber(now)
end
local now_text = string.format('%.0f', now)
