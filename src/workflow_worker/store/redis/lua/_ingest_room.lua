-- Letters, mailboxes and early lists as one ingest will leave them, within their caps. Needs _caps, _ingest_plan.
local function plan_letter(fields, first, reason, run, start)
  letters[#letters + 1] = { fields, first, reason, run, start }
end

-- Whether a mailbox is at its cap. What another run answers has always room: the run waits for it.
local function has_room(run, item, internal)
  if #run.mail == 0 then call('LLEN', P .. 'mailbox:' .. run.ref) end
  if internal then return true end
  if run.mails >= mail_cap then return false end
  if run.mails * max_bytes <= cap_bytes then return true end
  if not run.weight then
    run.weight = weight_of(P .. 'mailbox:' .. run.ref, run.mails)
    for i = 1, #run.mail do run.weight = run.weight + #run.mail[i] end
  end
  run.weight = run.weight + #item
  return run.weight - #item < cap_bytes
end

-- Appends to a mailbox; false when it is at its cap: then the copy is a dead letter of that run.
local function put(run, item, fields, first, internal)
  if not has_room(run, item, internal) then
    plan_letter(fields or cmsgpack.unpack(item), first, 'too many: mail of the run', run.ref)
    return false
  end
  run.mails = run.mails + 1
  if run.mail == NO_MAIL then run.mail = { item } else run.mail[#run.mail + 1] = item end
  touch(run)
  count('deliveries')
  return true
end

-- The early list of a subject: how many are stored, whether they will be gone, and what will be added.
local function early_of(subject)
  local list = early[subject]
  if not list then
    local key = P .. 'early:' .. subject
    list = { stored = call('LLEN', key), added = {}, claimed = false, weight = 0 }
    list.weight = weight_of(key, list.stored)
    early[subject] = list
  end
  return list
end

local function keep_early(found, item, to)
  local list = early_of(found.subject)
  local many = list.stored + #list.added
  if many >= early_cap or (many * max_bytes > cap_bytes and list.weight >= cap_bytes) then return false end
  local kept = { now + early_ttl, found.type, item }
  for i = 1, #to do kept[3 + i] = to[i] end
  local packed = cmsgpack.pack(kept)
  list.added[#list.added + 1] = packed
  list.weight = list.weight + #packed
  return true
end
