-- Forgets: seen ids after one to two windows, ended runs that are too old or too many, redriven letters when too old.
local function rotate_seen()
  local rotated = tonumber(call('HGET', P .. 'stat', 'rotated'))
  if rotated and rotated <= now and now - rotated < tonumber(window) then return end
  if rotated and rotated <= now then
    call('DEL', P .. 'seen:old')
    if call('EXISTS', P .. 'seen:new') == 1 then call('RENAME', P .. 'seen:new', P .. 'seen:old') end
  end
  call('HSET', P .. 'stat', 'rotated', now)
end

-- Every key of an ended run goes (invariant F); its dead letters stay, they are a person's business.
local function retire_runs(left)
  local oldest, excess = now - retention, call('ZCARD', P .. 'index:ended') - tonumber(retention_runs)
  local refs = left > 0 and call('ZRANGE', P .. 'index:ended', 0, left - 1, 'WITHSCORES') or {}
  local gone = {}
  for i = 1, #refs, 2 do
    if tonumber(refs[i + 1]) > oldest and #gone >= excess then break end
    gone[#gone + 1] = refs[i]
    call('UNLINK', P .. 'run:' .. refs[i], P .. 'history:' .. refs[i], P .. 'mailbox:' .. refs[i])
  end
  if #gone > 0 then
    call('ZREM', P .. 'index:ended', unpack(gone))
    call('ZREM', P .. 'index', unpack(gone))
  end
  return #gone
end

local function retire_letters(left)
  if left <= 0 then return 0 end
  local ids = call('ZRANGEBYSCORE', P .. 'redriven', '-inf', now - retention, 'LIMIT', 0, left)
  if #ids == 0 then return 0 end
  call('XDEL', P .. 'dead', unpack(ids))
  call('ZREM', P .. 'redriven', unpack(ids))
  return #ids
end
