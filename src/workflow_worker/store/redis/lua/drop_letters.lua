-- Deletes dead letters that wait and fit for good: looks at up to 200 of them from an id on. Empty arguments fit all.
-- keys: prefix
-- args: now first reason kind before limit by looked_for
-- include: _now _when_full _streams _again _acts
-- returns: where to go on (empty: at the end), how many went
limit = tonumber(limit)
local letters, fitting = call('XRANGE', P .. 'dead', first, '+', 'COUNT', 200), {}
local function fits(id, letter)
  local fields = fields_of(letter)
  if not fields or call('ZSCORE', P .. 'redriven', id) then return false end
  if string.sub(letter[2], 1, #reason) ~= reason then return false end
  if before ~= '' and tonumber(letter[4]) >= tonumber(before) then return false end
  local found
  for i = 1, #fields - 1, 2 do
    if fields[i] == 'type' then found = fields[i + 1] end
  end
  return kind == '' or found == kind
end
local after = ''
for i = 1, #letters do
  if #fitting >= limit then break end
  after = '(' .. letters[i][1]
  if fits(letters[i][1], letters[i][2]) then fitting[#fitting + 1] = letters[i][1] end
end
if #fitting > 0 then
  note(by, 'drop letters', looked_for, #fitting)
  call('XDEL', P .. 'dead', unpack(fitting))
end
if #letters < 200 and #fitting < limit then after = '' end
return { after, #fitting }
