-- What a tick looks after besides what is due: the ids of the public stream, and the server's memory. Needs _streams.
-- Whoever adds entries must be able to: our scripts mend a stream when they fail on it, strangers cannot.
local function mend_events()
  if call('EXISTS', P .. 'events') == 0 then return end
  local info = call('XINFO', 'STREAM', P .. 'events')
  for i = 1, #info - 1, 2 do
    if info[i] == 'last-generated-id' and string.match(info[i + 1], '^18446744073709551615%-') then mend('events') end
  end
end

-- Above the high-water mark nothing new is begun for 10 s from the last look; what runs needs the rest to end.
local function watch_memory()
  local info = redis.pcall('INFO', 'memory')
  if type(info) ~= 'string' then return nil end
  local used, most = string.match(info, 'used_memory:(%d+)'), tonumber(string.match(info, '%f[%a]maxmemory:(%d+)') or 0)
  if not used then return nil end
  -- Without a limit there is room, also where there was one a moment ago.
  local percent, water = most > 0 and math.floor(used * 100 / most) or 0, tonumber(high_water)
  if water > 0 and percent >= water then
    call('HSET', P .. 'stat', 'full', now + 10000)
  else
    call('HDEL', P .. 'stat', 'full')
  end
  return most > 0 and percent or nil
end
