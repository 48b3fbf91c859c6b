-- Taking one run out of its holder's hands and giving it to `ready`. Needs _now, _tokens, _held, _streams.
-- Owner and token are written with `fields` in one HSET; a suspended run stays where it is. Returns the token.
local function to_ready(ref, owner, token, status, fields)
  if is_held(owner) then call('HDEL', P .. 'held:' .. owner, ref) end
  token = raise_token(token)
  call('HSET', P .. 'run:' .. ref, 'owner', status == 'suspended' and '' or 'ready', 'token', token, unpack(fields))
  call('ZREM', P .. 'wakes', ref)
  if status ~= 'suspended' then add('ready', 'run', ref, 'token', token) end
  return token
end
