-- Runs that a session holds, about `limit` of them: all names of a small hash come at once, of a large one no more than
-- are wanted. Also returns whether these are all.
local function held_runs(session, limit)
  local refs, known, cursor = {}, { ['#'] = true }, '0'
  repeat
    local page = call('HSCAN', P .. 'held:' .. session, cursor, 'COUNT', limit)
    cursor = page[1]
    for i = 1, #page[2], 2 do
      local ref = page[2][i]
      if not known[ref] then
        known[ref] = true
        refs[#refs + 1] = ref
      end
    end
  until cursor == '0' or #refs > limit
  return refs, cursor == '0'
end
