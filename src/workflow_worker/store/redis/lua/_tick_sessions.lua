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

-- A run that cannot be read is nobody's: it must not keep the others in a dead session.
local function take(session, ref)
  if not pcall(take_over, session, ref) then call('HDEL', P .. 'held:' .. session, ref) end
end

local function reap_sessions(left)
  mark_sessions()
  local moved, dying = 0, call('ZRANGE', P .. 'reaping', 0, 199)
  for i = 1, #dying do
    if moved >= left then break end
    local refs, all = held_runs(dying[i], left - moved)
    local taken = math.min(#refs, left - moved)
    for j = 1, taken do take(dying[i], refs[j]) end
    if all and taken == #refs then
      call('DEL', P .. 'held:' .. dying[i])
      call('ZREM', P .. 'reaping', dying[i])
    end
    moved = moved + math.max(1, taken)
  end
  return moved
end

-- When the next living session expires, or the next marked one may be reaped.
local function next_session()
  local after = string.format('(%.0f', now)
  local found = tonumber(call('ZRANGEBYSCORE', P .. 'sessions', after, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  local third = math.floor(ttl / 3)
  local since = string.format('(%.0f', now - third)
  local marked = tonumber(call('ZRANGEBYSCORE', P .. 'marked', since, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
  if marked and (not found or marked + third < found) then found = marked + third end
  return found and string.format('%.0f', found) or ''
end
