-- A field of `subjects`: `=` and the run's name for a subject with one live run, which nearly all have, else a packed
-- list (whose first byte is never `=`).
local function live_of(value)
  if not value then return {} end
  if string.sub(value, 1, 1) == '=' then return { string.sub(value, 2) } end
  return cmsgpack.unpack(value)
end

local function pack_live(live)
  if #live == 1 then return '=' .. live[1] end
  return cmsgpack.pack(live)
end
