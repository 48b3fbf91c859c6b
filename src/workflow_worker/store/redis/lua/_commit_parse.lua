-- Where each part of the commit at `at` begins. Most commits are plain: they have no more than fields and records.
local function parse(at)
  local c = { at = at, ref = ARGV[at], key = P .. 'run:' .. ARGV[at], mode = ARGV[at + 6], taken = 0, refused = false,
    fields = at + 11, records = 0, n_records = tonumber(ARGV[at + 9]), rejects = 0, n_rejects = 0, waits = 0,
    n_emits = 0, next = 0 }
  local more = ARGV[at + 10] == '1'
  if more then c.fields = at + 19 end
  c.records = c.fields + 2 * ARGV[at + 8]
  c.rejects = c.records + c.n_records
  c.next = c.rejects
  if more then
    c.taken, c.refused, c.n_rejects = tonumber(ARGV[at + 11]), ARGV[at + 14] == '1', tonumber(ARGV[at + 15])
    c.added = c.rejects + 2 * c.n_rejects
    c.removed = c.added + 2 * ARGV[at + 16]
    c.emits, c.n_emits = c.removed + 2 * ARGV[at + 17], tonumber(ARGV[at + 18])
    c.waits, c.next = c.emits - c.added, c.emits
    for _ = 1, c.n_emits do c.next = c.next + 2 + ARGV[c.next + 1] end
  end
  return c
end
