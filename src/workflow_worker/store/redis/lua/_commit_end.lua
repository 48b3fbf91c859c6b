-- What the ends and releases of one call share: written once for all of them.
local off, ends, wakes, ended = {}, {}, {}, {}

local function let_go(session, ref)
  local refs = off[session]
  if not refs then
    refs = {}
    off[session] = refs
  end
  refs[#refs + 1] = ref
end

-- The runs leave their subjects.
local function write_subjects()
  local names, place = {}, {}
  for i = 1, #ends do
    local subject = ends[i][2]
    if not place[subject] then
      names[#names + 1] = subject
      place[subject] = #names
    end
  end
  if #names == 0 then return end
  local lists, gone, kept = call('HMGET', P .. 'subjects', unpack(names)), {}, {}
  for i = 1, #lists do lists[i] = lists[i] and cmsgpack.unpack(lists[i]) or {} end
  for i = 1, #ends do
    local live = lists[place[ends[i][2]]]
    for j = #live, 1, -1 do
      if live[j] == ends[i][1] then table.remove(live, j) end
    end
  end
  for i = 1, #lists do
    if #lists[i] == 0 then
      gone[#gone + 1] = names[i]
    else
      kept[#kept + 1], kept[#kept + 2] = names[i], cmsgpack.pack(lists[i])
    end
  end
  if #gone > 0 then call('HDEL', P .. 'subjects', unpack(gone)) end
  if #kept > 0 then call('HSET', P .. 'subjects', unpack(kept)) end
end

local function write_ends()
  for session, refs in pairs(off) do call('HDEL', P .. 'held:' .. session, unpack(refs)) end
  if #wakes > 0 then call('ZADD', P .. 'wakes', unpack(wakes)) end
  if #ended > 0 then call('ZADD', P .. 'index:ended', unpack(ended)) end
  write_subjects()
end
