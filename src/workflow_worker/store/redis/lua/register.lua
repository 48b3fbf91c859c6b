-- Declares an app's routes: adds or raises, never lowers or removes. A mark that is known changes nothing.
-- keys: prefix
-- args: now mark knows ...
-- include: _now _routes _streams _again _sweep
-- returns: ok; after `knows` come (type, packed route)…
if call('HSETNX', P .. 'routes', '#' .. mark, knows) == 1 then
  for i = 4, #ARGV, 2 do
    local kind, packed = ARGV[i], ARGV[i + 1]
    local known = call('HGET', P .. 'routes', kind)
    if known then
      local merged, new = cmsgpack.unpack(known)[2], cmsgpack.unpack(packed)
      for j = 1, #new[2] do
        local start, place = new[2][j], #merged + 1
        for k = 1, #merged do
          if merged[k][1] == start[1] then place = k end
        end
        if place > #merged or start[2] >= merged[place][2] then merged[place] = start end
      end
      packed = cmsgpack.pack({ new[1], merged })
    end
    call('HSET', P .. 'routes', kind, packed)
  end
  call('HSET', P .. 'stat', 'sweep', '0')
end
sweep_undeclared(200)
return 'ok'
