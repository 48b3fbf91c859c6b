-- Redrives dead letters "undeclared" whose type is declared now, from where the last call stopped. Needs _now, _routes,
-- _again. Returns how many letters were looked at.
local function sweep_undeclared(limit)
  local after = call('HGET', P .. 'stat', 'sweep')
  if not after or limit <= 0 then return 0 end
  local letters = call('XRANGE', P .. 'dead', after == '0' and '-' or '(' .. after, '+', 'COUNT', limit)
  for i = 1, #letters do
    local id, letter = letters[i][1], letters[i][2]
    after = id
    local fields = letter[2] == 'undeclared' and fields_of(letter)
    if fields and not call('ZSCORE', P .. 'redriven', id) then
      local kind
      for j = 1, #fields - 1, 2 do
        if fields[j] == 'type' then kind = fields[j + 1] end
      end
      if kind and find_route(kind) then send_again(id, letter, fields) end
    end
  end
  if #letters < limit then
    call('HDEL', P .. 'stat', 'sweep')
  else
    call('HSET', P .. 'stat', 'sweep', after)
  end
  return #letters
end
