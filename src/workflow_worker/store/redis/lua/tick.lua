-- Moves what is due, at most `limit` things, in this order: sessions, wakes, early events, delayed events, the search
-- for undeclared letters, retention. Any number of workers may call it at any time.
-- keys: prefix
-- args: now limit ttl max_takeovers poison window retention retention_runs high_water
-- include: _now _when_full _tokens _held _streams _runs _take_over _held_runs _routes _again _sweep _tick_health
-- returns: now, moved, full (1 or 0), next due (empty: nothing waits), percent of memory in use (empty: not known),
-- when a session expires or may be reaped next (empty: never)
local ENDED = { completed = true, failed = true, cancelled = true }
limit, ttl, max_takeovers, retention = tonumber(limit), tonumber(ttl), tonumber(max_takeovers), tonumber(retention)
-- include: _tick_sessions _tick_due _tick_retire
rotate_seen()
mend_events()
local memory = watch_memory()
local left = limit
left = left - reap_sessions(left)
left = left - wake_runs(left)
left = left - expire_early(left)
left = left - send_delayed(left)
left = left - sweep_undeclared(left)
left = left - retire_runs(left)
left = left - retire_letters(left)
keep_highest_token()
local nearest
for _, key in ipairs({ 'wakes', 'deadlines', 'delayed' }) do
  local first = tonumber(call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')[2])
  if first and (not nearest or first < nearest) then nearest = first end
end
return { now, limit - left, left <= 0 and 1 or 0, nearest and string.format('%.0f', nearest) or '', memory or '',
  next_session() }
