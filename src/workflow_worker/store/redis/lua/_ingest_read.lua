-- Reads one entry's fields once: a table of what routing needs, or the reason why it is dead. Writes nothing.
local function is_utf8(text)
  if not string.find(text, '[\128-\255]') then return true end
  text = string.gsub(text, '[\194-\223][\128-\191]', '\n')
  text = string.gsub(text, '\224[\160-\191][\128-\191]', '\n')
  text = string.gsub(text, '[\225-\236\238\239][\128-\191][\128-\191]', '\n')
  text = string.gsub(text, '\237[\128-\159][\128-\191]', '\n')
  text = string.gsub(text, '\240[\144-\191][\128-\191][\128-\191]', '\n')
  text = string.gsub(text, '[\241-\243][\128-\191][\128-\191][\128-\191]', '\n')
  text = string.gsub(text, '\244[\128-\143][\128-\191][\128-\191]', '\n')
  return not string.find(text, '[\128-\255]')
end

local BOUNDED = { 'id', 'subject', 'workflow', 'run' }
local KNOWN = { id = true, type = true, subject = true, workflow = true, run = true, via = true }

-- The known fields of an entry; a name given twice counts with its last value, an empty value is none. All fields of
-- `found` stand in its constructor: a table that grows later is rehashed again and again.
local function read_entry(id, fields)
  local found = { entry = id, fields = fields, via_bytes = 0, id = false, type = false, subject = false, via = false,
    workflow = false, run = false, alone = false, may_start = false, route = false, targets = false, got = false,
    address = false, item = false }
  for i = 1, #fields - 1, 2 do
    local name, value = fields[i], fields[i + 1]
    if KNOWN[name] then
      found[name] = value ~= '' and value
      if name == 'via' then found.via_bytes = found.via_bytes + 3 + #value end
    end
  end
  if found.via then
    local word, ref = string.match(found.via, '^(%l+) (.*)$')
    if word == 'copy' or word == 'start' then found.alone, found.may_start = ref, word == 'start' end
  end
  return found
end

local function start_of(route, workflow)
  for i = 1, #route[2] do
    if route[2][i][1] == workflow then return route[2][i] end
  end
end

-- The first check that fails decides; nil when the entry can be routed. `targets`: start route (false: none), run…
local function refuse(found)
  local text = table.concat(found.fields)
  if #text - found.via_bytes > max_bytes then return 'too big' end
  if string.find(text, '[\128-\255]') then
    for i = 1, #found.fields do
      if not is_utf8(found.fields[i]) then return 'not utf-8' end
    end
  end
  local kind, workflow = found.type, found.workflow
  if not kind then return 'no type' end
  if string.sub(kind, 1, 3) == 'wf.' then return 'malformed: type begins with wf.' end
  if string.find(kind, '[%z\1-\32\127#*]') then return 'malformed: type that nobody can declare' end
  for i = 1, 4 do
    local name = BOUNDED[i]
    if #(found[name] or '') > max_name then
      return 'malformed: ' .. name .. ' is longer than ' .. max_name .. ' bytes'
    end
  end
  if workflow or found.run then
    if not found.run then return 'malformed: addressed without run' end
    if not workflow then return 'malformed: addressed without workflow' end
    if string.find(workflow, ':', 1, true) then return 'malformed: workflow name with a colon' end
    found.address = workflow .. ':' .. found.run
  end
  local route = find_route(kind)
  if not route then return 'undeclared' end
  found.route, found.got = route, {}
  local targets, missing, starts = {}, false, route[2]
  for i = 1, #starts do
    local start = starts[i]
    local run_id = make_run_id(start[3], found.id or found.entry, found.subject)
    if run_id then
      targets[#targets + 1], targets[#targets + 2] = start, start[1] .. ':' .. run_id
    else
      missing = true
    end
  end
  if not found.subject and (route[1] or (missing and not found.address)) then return 'subject missing' end
  if found.address then targets = { start_of(route, workflow) or false, found.address } end
  found.targets = targets
end
