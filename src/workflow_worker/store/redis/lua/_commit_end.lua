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

local function without(live, ref)
  local kept = {}
  for i = 1, #live do
    if live[i] ~= ref then kept[#kept + 1] = live[i] end
  end
  return kept
end

-- The runs leave their subjects; `lists` keeps each as it will be, `false` when it has no live run left.
local function write_subjects()
  local names, lists = {}, {}
  for i = 1, #ends do
    if lists[ends[i][2]] == nil then
      names[#names + 1], lists[ends[i][2]] = ends[i][2], false
    end
  end
  if #names == 0 then return end
  local found, gone, kept = call('HMGET', P .. 'subjects', unpack(names)), {}, {}
  for i = 1, #names do lists[names[i]] = found[i] end
  for i = 1, #ends do
    local ref, subject = ends[i][1], ends[i][2]
    local value = lists[subject]
    if value == '=' .. ref then
      lists[subject] = false
    elseif value then
      local live = without(live_of(value), ref)
      lists[subject] = #live > 0 and pack_live(live)
    end
  end
  for i = 1, #names do
    local value = lists[names[i]]
    if value then
      kept[#kept + 1], kept[#kept + 2] = names[i], value
    else
      gone[#gone + 1] = names[i]
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
