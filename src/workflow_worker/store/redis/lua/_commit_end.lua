-- What the ends and releases of one call share: written once for all of them. `ends_of` pairs subjects and runs.
local off, ends_of, wakes, ended = {}, {}, {}, {}

local function let_go(held, ref)
  local refs = off[held]
  if not refs then
    refs = {}
    off[held] = refs
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

-- The runs leave their subjects; `lists` keeps each as it will be, `false` when it has no live run left. A list that
-- nobody can read stays as it is: every event of its subject will say so.
local function write_subjects()
  local names, lists = {}, {}
  for i = 1, #ends_of, 2 do
    if lists[ends_of[i]] == nil then
      names[#names + 1], lists[ends_of[i]] = ends_of[i], false
    end
  end
  if #names == 0 then return end
  local found, gone, kept = call('HMGET', P .. 'subjects', unpack(names)), {}, {}
  for i = 1, #names do lists[names[i]] = found[i] end
  for i = 1, #ends_of, 2 do
    local subject, ref = ends_of[i], ends_of[i + 1]
    local value = lists[subject]
    if value == '=' .. ref then
      lists[subject] = false
    elseif value then
      local ok, live = pcall(live_of, value)
      if ok and type(live) == 'table' then
        live = without(live, ref)
        lists[subject] = #live > 0 and pack_live(live)
      end
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
  for held, refs in pairs(off) do call('HDEL', held, unpack(refs)) end
  if #wakes > 0 then call('ZADD', P .. 'wakes', unpack(wakes)) end
  if #ended > 0 then call('ZADD', P .. 'index:ended', unpack(ended)) end
  write_subjects()
end
