-- Waits for events of other subjects. `waits` of a run is a packed flat list (type, subject…); the set of a wait lists
-- its runs, and `waiting` all waits that have one. Needs _now, _streams, _caps.
local function wait_name(kind, subject)
  return #kind .. ':' .. kind .. ':' .. subject
end

local function place_of(waits, kind, subject)
  for i = 1, #waits, 2 do
    if waits[i] == kind and waits[i + 1] == subject then return i end
  end
end

-- What came before is copied, oldest first, and remembers who had it. Returns how many copies went into the mailbox.
-- `kept` are the early events of the subject, unpacked.
local function add_wait(ref, waits, kind, subject, kept, mails)
  if place_of(waits, kind, subject) then return 0 end
  waits[#waits + 1], waits[#waits + 2] = kind, subject
  local name, copies, box = wait_name(kind, subject), 0, P .. 'mailbox:' .. ref
  call('SADD', P .. 'waits:' .. name, ref)
  call('SADD', P .. 'waiting', name)
  for i = 1, #kept do
    local item = kept[i]
    local had = item[2] ~= kind
    for j = 4, #item do had = had or item[j] == ref end
    if not had then
      item[#item + 1] = ref
      call('LSET', P .. 'early:' .. subject, i - 1, cmsgpack.pack(item))
      if is_full(box, mails + copies, mailbox_cap) then
        bury(cmsgpack.unpack(item[3]), 2, 'too many: mail of the run', ref)
      else
        call('RPUSH', box, item[3])
        copies = copies + 1
      end
    end
  end
  return copies
end

local function forget_wait(ref, kind, subject)
  local name = wait_name(kind, subject)
  call('SREM', P .. 'waits:' .. name, ref)
  if call('EXISTS', P .. 'waits:' .. name) == 0 then call('SREM', P .. 'waiting', name) end
end

local function remove_wait(ref, waits, kind, subject)
  local at = place_of(waits, kind, subject)
  if not at then return end
  table.remove(waits, at)
  table.remove(waits, at)
  forget_wait(ref, kind, subject)
end
