-- What may be text. A stranger's bytes need not be.
local find = string.find

-- Whether all bytes are below 128. Anchored, the pattern takes half the time of a search for one above.
local function is_ascii(text)
  local _, last = find(text, '^[^\128-\255]*')
  return last == #text
end

local function is_utf8(text)
  if is_ascii(text) then return true end
  text = string.gsub(text, '[\194-\223][\128-\191]', '\n')
  text = string.gsub(text, '\224[\160-\191][\128-\191]', '\n')
  text = string.gsub(text, '[\225-\236\238\239][\128-\191][\128-\191]', '\n')
  text = string.gsub(text, '\237[\128-\159][\128-\191]', '\n')
  text = string.gsub(text, '\240[\144-\191][\128-\191][\128-\191]', '\n')
  text = string.gsub(text, '[\241-\243][\128-\191][\128-\191][\128-\191]', '\n')
  text = string.gsub(text, '\244[\128-\143][\128-\191][\128-\191]', '\n')
  return not string.find(text, '[\128-\255]')
end
