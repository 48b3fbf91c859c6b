-- Sending a dead letter again, as an entry of ours: its id needs no look into the seen ids. Needs _streams.
-- Nil for what is no letter of ours: anybody can add to the stream.
local function fields_of(letter)
  if letter[1] ~= 'reason' or letter[5] ~= 'run' or letter[9] ~= 'raw' then return nil end
  local ok, fields = pcall(cmsgpack.unpack, letter[10])
  return ok and type(fields) == 'table' and fields or nil
end

-- An entry of more names than Lua can unpack was refused for that and always would be: false, and nothing is written.
local function send_again(id, letter, fields)
  if not fields or #fields == 0 or #fields > 6000 then return false end
  local via = 'redrive'
  if letter[6] ~= '' then via = (letter[8] == '1' and 'start ' or 'copy ') .. letter[6] end
  add('events', 'via', via, unpack(fields))
  call('ZADD', P .. 'redriven', now, id)
  return true
end
