-- Adding to our streams, and dead letters. Needs _now.
local bury

-- A stranger's XADD under the highest id of all leaves no id for anybody behind it: the stream is made anew, with its
-- groups. Entries keep their ids; those of the stranger and after it get new ones. In one piece, however long: half a
-- stream is worse. An entry of more fields than Lua can hand back goes to `dead`.
local function mend(name)
  local key, from, time = P .. name, P .. 'mending', call('TIME')
  local far, info, added = time[1] * 1000 + 86400000, call('XINFO', 'STREAM', key), nil
  for i = 1, #info - 1, 2 do
    if info[i] == 'entries-added' then added = info[i + 1] end
  end
  local function is_strange(id) return tonumber(string.match(id, '^%d+')) > far end
  local groups, last, after = call('XINFO', 'GROUPS', key), '0-1', '-'
  call('RENAME', key, from)
  repeat
    local entries = call('XRANGE', from, after, '+', 'COUNT', 50)
    for i = 1, #entries do
      local id, fields = entries[i][1], entries[i][2]
      after = '(' .. id
      if #fields <= 6000 then
        last = call('XADD', key, is_strange(id) and '*' or id, unpack(fields))
        local redriven = name == 'dead' and last ~= id and call('ZSCORE', P .. 'redriven', id)
        if redriven then
          call('ZREM', P .. 'redriven', id)
          call('ZADD', P .. 'redriven', redriven, last)
        end
      elseif name == 'events' then
        bury(fields, 1, 'unreadable: too many fields')
        call('HINCRBY', P .. 'stat', 'ingested', 1)
        call('HINCRBY', P .. 'stat', 'dead', 1)
      end
    end
  until #entries < 50
  call('UNLINK', from)
  if #groups == 0 then groups = { { 'name', 'workers' } } end
  for i = 1, #groups do call('XGROUP', 'CREATE', key, groups[i][2], '0', 'MKSTREAM') end
  if added then call('XSETID', key, last, 'ENTRIESADDED', added, 'MAXDELETEDID', '0-0') end
end

local function add(name, ...)
  local id = redis.pcall('XADD', P .. name, '*', ...)
  if type(id) == 'string' then return id end
  if string.find(id.err, 'exhausted', 1, true) then mend(name) end
  return call('XADD', P .. name, '*', ...)
end

-- `raw` is the packed list of an entry's fields without `via`, `run` whose copy it was, or empty. Returns the id of the
-- letter.
bury = function(fields, first, reason, run, start)
  local kept = {}
  for i = first, #fields - 1, 2 do
    if fields[i] ~= 'via' then
      kept[#kept + 1] = fields[i]
      kept[#kept + 1] = fields[i + 1]
    end
  end
  return add('dead', 'reason', reason, 'at', now_text, 'run', run or '', 'start', start and 1 or 0, 'raw',
    cmsgpack.pack(kept))
end
