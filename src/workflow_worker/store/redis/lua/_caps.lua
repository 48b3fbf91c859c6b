-- How much one mailbox, or one subject's early events, may hold. Numbers: max_bytes, cap_bytes.
-- Bytes that the server spends on a list. So few items that they cannot be too many bytes are not weighed: 0.
local function weight_of(key, items)
  if items * max_bytes <= cap_bytes then return 0 end
  local bytes = redis.pcall('MEMORY', 'USAGE', key, 'SAMPLES', 0)
  return type(bytes) == 'number' and bytes or 0
end

local function is_full(key, items, cap)
  return items >= cap or weight_of(key, items) >= cap_bytes
end
