-- The route of an event type: its own, else that of the longest declared prefix, cut at dots. Memoised per call.
local routes = {}

local function find_route(kind)
  local found = routes[kind]
  if found ~= nil then return found end
  found = call('HGET', P .. 'routes', kind)
  local stem = kind
  while not found do
    stem = string.match(stem, '^(.*)%.[^.]*$')
    if not stem then break end
    found = call('HGET', P .. 'routes', stem .. '.*')
  end
  found = found and cmsgpack.unpack(found)
  routes[kind] = found
  return found
end
