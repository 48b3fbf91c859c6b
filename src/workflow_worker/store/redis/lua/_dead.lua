-- Dead letters: `raw` is the packed list of an entry's fields without `via`, `run` whose copy it was, or empty.
local function without_via(fields, first)
  local kept = {}
  for i = first, #fields - 1, 2 do
    if fields[i] ~= 'via' then
      kept[#kept + 1] = fields[i]
      kept[#kept + 1] = fields[i + 1]
    end
  end
  return kept
end

local function bury(fields, first, reason, run, start)
  local raw = cmsgpack.pack(without_via(fields, first))
  call('XADD', P .. 'dead', '*', 'reason', reason, 'at', now, 'run', run or '', 'start', start and 1 or 0, 'raw', raw)
end
