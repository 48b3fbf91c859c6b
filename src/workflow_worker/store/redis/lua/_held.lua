-- Whether an owner is a session: these words are nobody, also for a caller that calls itself so.
local function is_held(owner)
  return owner and owner ~= '' and owner ~= 'ready' and owner ~= 'parked'
end
