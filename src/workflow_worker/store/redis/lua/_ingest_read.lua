-- Reads one entry's fields once: a table of what routing needs, or the reason why it is dead. Writes nothing.
local BOUNDED = { 'id', 'type', 'subject', 'workflow', 'run' }
local KNOWN = { id = true, type = true, subject = true, workflow = true, run = true, via = true }

-- What nearly all events look like that `publish` has added: with a subject, or without.
local function is_plain(f)
  if f[1] ~= 'via' or f[2] ~= 'p' or f[3] ~= 'id' or f[5] ~= 'type' or f[4] == '' or f[6] == '' then
    return false
  end
  if f[7] == 'data' then return f[9] == nil end
  return f[7] == 'subject' and f[9] == 'data' and f[8] ~= '' and f[11] == nil
end

-- The known fields of an entry; a name given twice counts with its last value, an empty value is none. `copy`: the run
-- whose copy it is, and whether of its start event. `targets`: start route (false: none), run… All fields of `found`
-- stand in its constructor, 16 at most: a table that grows later is rehashed, and a larger one costs twice.
local function read_entry(id, fields)
  local found = { entry = id, fields = fields, id = false, type = false, subject = false, via = false, workflow = false,
    run = false, copy = false, targets = false, got = 0, address = false, item = false, internal = false,
    fresh = false, plain = false }
  if is_plain(fields) then
    found.plain, found.via, found.id, found.type = true, 'p', fields[4], fields[6]
    if fields[9] then found.subject = fields[8] end
    return found
  end
  for i = 1, #fields - 1, 2 do
    local name = fields[i]
    if KNOWN[name] then found[name] = fields[i + 1] ~= '' and fields[i + 1] end
  end
  if found.via and #found.via > 7 then
    local word, ref = string.match(found.via, '^(%l+) (.*)$')
    if word == 'copy' or word == 'start' then found.copy = { ref, word == 'start' } end
  end
  return found
end

local function start_of(route, workflow)
  for i = 1, #route[2] do
    if route[2][i][1] == workflow then return route[2][i] end
  end
end

-- What is wrong with a type, or its route; looked at once a call.
local kinds = {}

local function kind_of(kind)
  local head, known = string.sub(kind, 1, 3), { problem = false, internal = false, route = false }
  kinds[kind] = known
  if head == 'wf.' then
    known.problem = 'malformed: type begins with wf.'
  elseif string.find(kind, '[%z\1-\32\127#*]') then
    known.problem = 'malformed: type that nobody can declare'
  else
    known.internal = head == 'ww.'
  end
  return known
end

local function address_of(workflow, run)
  if not run then return nil, 'malformed: addressed without run' end
  if not workflow then return nil, 'malformed: addressed without workflow' end
  if string.find(workflow, ':', 1, true) then return nil, 'malformed: workflow name with a colon' end
  return workflow .. ':' .. run
end

-- Whether the data, or all names and values but `via`, are too many bytes: a redriven entry weighs what it weighed.
-- What one run sends another is not bound by what producers may send: the other waits for it.
local function is_big(found)
  local fields, all, data, most = found.fields, 0, 0, max_bytes
  if (found.via == 'emit' or found.copy) and string.sub(found.type or '', 1, 3) == 'ww.' then
    most = math.max(most, tonumber(internal_bytes))
  end
  for i = 1, #fields - 1, 2 do
    if fields[i] ~= 'via' then all = all + #fields[i] + #fields[i + 1] end
    if fields[i] == 'data' then data = #fields[i + 1] end
  end
  return data > most or all > most + envelope
end

-- The first check that fails decides; nil when the entry can be routed.
local function refuse(found)
  local f = found.fields
  local text
  if not found.plain then
    text = table.concat(f)
  elseif found.subject then
    text = f[4] .. f[6] .. f[8] .. f[10]
  else
    text = f[4] .. f[6] .. f[8]
  end
  if #text > max_bytes and is_big(found) then return 'too big' end
  if not is_ascii(text) then
    for i = 1, #found.fields do
      if not is_utf8(found.fields[i]) then return 'not utf-8' end
    end
  end
  local kind, problem = found.type, nil
  if not kind then return 'no type' end
  local known = kinds[kind] or kind_of(kind)
  if known.problem then return known.problem end
  if known.internal and found.via ~= 'emit' and not found.copy then return 'malformed: type begins with ww.' end
  found.internal = known.internal
  for i = 1, #text > max_name and 5 or 0 do
    local name = BOUNDED[i]
    if #(found[name] or '') > max_name then
      return 'malformed: ' .. name .. ' is longer than ' .. max_name .. ' bytes'
    end
  end
  if found.workflow or found.run then
    found.address, problem = address_of(found.workflow, found.run)
    if problem then return problem end
  end
  local route = find_route(kind) or known.internal and found.address and { false, {} }
  if not route then return 'undeclared' end
  if found.address then
    if route[1] and not found.subject then return 'subject missing' end
    found.targets = { start_of(route, found.workflow) or false, found.address }
    return
  end
  local targets, starts = {}, route[2]
  if not found.subject and route[1] then return 'subject missing' end
  if #starts == 1 then
    local run_id = make_run_id(starts[1][3], found.id or found.entry, found.subject)
    if not run_id then return 'subject missing' end
    found.targets = { starts[1], starts[1][1] .. ':' .. run_id }
    return
  end
  for i = 1, #starts do
    local run_id = make_run_id(starts[i][3], found.id or found.entry, found.subject)
    if not run_id then return 'subject missing' end
    targets[2 * i - 1], targets[2 * i] = starts[i], starts[i][1] .. ':' .. run_id
  end
  found.targets = targets
end
