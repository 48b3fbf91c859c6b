-- The commit under work, as arguments: one table for all commits of a call, filled anew for each. Most commits are
-- plain: they have no more than values and records. What many have in common is one text, taken apart once:
-- status mode attempts values #records more session; `values` has a letter for each field that is set.
local FIELDS = { s = 'state', r = 'result', e = 'error', b = 'start' }
local shapes, c = {}, {}

local function shape_of(text)
  local status, mode, attempts, letters, records, more, session =
    string.match(text, '^(%l+) (%l+) (%d+) (%l*) (%d+) (%d) (.*)$')
  local shape = { status = status, mode = mode, attempts = tonumber(attempts), records = tonumber(records),
    more = more == '1', session = session, names = {}, held = P .. 'held:' .. session, nobody = not is_held(session) }
  for letter in string.gmatch(letters, '%l') do shape.names[#shape.names + 1] = FIELDS[letter] end
  shapes[text] = shape
  return shape
end

local function parse_more(at)
  c.taken, c.refused, c.n_rejects = tonumber(ARGV[at]), ARGV[at + 3] == '1', tonumber(ARGV[at + 4])
  c.n_emits, c.restart, c.last_taken, c.wake = tonumber(ARGV[at + 7]), ARGV[at + 8], ARGV[at + 1], ARGV[at + 2]
  c.added = c.rejects + 2 * c.n_rejects
  c.removed = c.added + 2 * ARGV[at + 5]
  c.emits = c.removed + 2 * ARGV[at + 6]
  c.waits, c.next, c.wait_list = c.emits - c.added, c.emits, nil
  for _ = 1, c.n_emits do c.next = c.next + 3 + ARGV[c.next + 2] end
end

local function parse(at)
  local shape = shapes[ARGV[at + 4]] or shape_of(ARGV[at + 4])
  local first = shape.more and at + 14 or at + 5
  c.at, c.shape, c.ref, c.values, c.more = at, shape, ARGV[at], first, shape.more
  c.records = first + #shape.names
  c.rejects = c.records + shape.records
  if shape.more then return parse_more(at + 5) end
  c.taken, c.next = 0, c.rejects
end
