-- What one ingest takes: runs from `ready`, entries from `events` with what was seen of them, and their fates.
-- Stale entries go, and those whose run's key is of another type; runs that the caller does not know are left.
local function take_ready()
  local looked = call('XRANGE', P .. 'ready', cursor == '0' and '-' or '(' .. cursor, '+', 'COUNT', 4 * room)
  if #looked == 4 * room then at = looked[#looked][1] end
  for i = 1, #looked do
    if #leased >= room then
      at = looked[i - 1][1]
      break
    end
    local id, fields = looked[i][1], looked[i][2]
    local ok, run = pcall(run_of, fields[2] or '')
    if not ok or not run or run.owner ~= 'ready' or run.token ~= fields[4] then
      gone[#gone + 1] = id
    elseif knows[run.kind] then
      gone[#gone + 1] = id
      lease(run)
    end
  end
end

-- Reads what was taken. A bare id that was seen is a duplicate; another will be remembered.
local function read_all(entries)
  local taken, refusals, ids, places = {}, {}, {}, {}
  for i = 1, #entries do
    taken[i], refusals[i] = read_entry(entries[i][1], entries[i][2]), false
    local id = taken[i].id
    if id and not taken[i].via then
      if places[id] then
        refusals[i] = 'duplicate'
      else
        places[id] = i
        ids[#ids + 1] = id
      end
    end
  end
  if #ids == 0 then return taken, refusals end
  local new, old = call('SMISMEMBER', P .. 'seen:new', unpack(ids)), call('SMISMEMBER', P .. 'seen:old', unpack(ids))
  for i = 1, #ids do
    local place = places[ids[i]]
    if new[i] == 1 or old[i] == 1 then refusals[place] = 'duplicate' else taken[place].fresh = true end
  end
  return taken, refusals
end

local function settle(found, refusal)
  ingested = ingested + 1
  if found.fresh then seen[#seen + 1] = found.id end
  if not refusal and found.got > 0 then
    routed = routed + 1
    return
  end
  if not refusal then return count('early') end
  if refusal == 'duplicate' then return count('duplicate') end
  if refusal == 'dropped' then
    count('early')
    return count('unclaimed')
  end
  count('dead')
  local copy = found.copy
  plan_letter(found.fields, 1, refusal, copy and copy[1], copy and copy[2])
end
