-- Sending a dead letter again, as an entry of ours: its id needs no look into the seen ids. Needs _now.
-- An entry of more names than Lua can unpack was refused for that and always would be: false, and nothing is written.
local function send_again(id, letter)
  local fields = cmsgpack.unpack(letter[10])
  if #fields > 6000 then return false end
  local via = 'redrive'
  if letter[6] ~= '' then via = (letter[8] == '1' and 'start ' or 'copy ') .. letter[6] end
  call('ZADD', P .. 'redriven', now, id)
  call('XADD', P .. 'events', '*', 'via', via, unpack(fields))
  return true
end
