-- Sessions past their expiry are marked, and reaped a third of LEASE_TTL later unless they renew. Two steps, because a
-- server that was frozen finds every session expired at its first tick. Needs _now, _take_over, _held_runs.
-- At most 200 of each a call: those of the next call have waited longest then.
local function mark_sessions()
  local cut = call('ZRANGEBYSCORE', P .. 'sessions', string.format('(%.0f', now + ttl), '+inf', 'LIMIT', 0, 200)
  for i = 1, #cut do call('ZADD', P .. 'sessions', now + ttl, cut[i]) end
  local expired = call('ZRANGEBYSCORE', P .. 'sessions', '-inf', now, 'LIMIT', 0, 200)
  for i = 1, #expired do
    local marked = tonumber(call('ZSCORE', P .. 'marked', expired[i]))
    if not marked or marked > now then
      call('ZADD', P .. 'marked', now, expired[i])
      marked = now
    end
    if now - marked >= math.floor(ttl / 3) then
      call('ZADD', P .. 'reaping', now, expired[i])
      call('ZREM', P .. 'sessions', expired[i])
      call('ZREM', P .. 'marked', expired[i])
    end
  end
end

local function reap_sessions(left)
  mark_sessions()
  local moved, dying = 0, call('ZRANGE', P .. 'reaping', 0, 199)
  for i = 1, #dying do
    if moved >= left then break end
    local refs, all = held_runs(dying[i], left - moved)
    local taken = math.min(#refs, left - moved)
    for j = 1, taken do take_over(dying[i], refs[j]) end
    if all and taken == #refs then
      call('DEL', P .. 'held:' .. dying[i])
      call('ZREM', P .. 'reaping', dying[i])
    end
    moved = moved + math.max(1, taken)
  end
  return moved
end
