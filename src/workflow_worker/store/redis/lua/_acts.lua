-- What people do is written down: who, what, on what. Needs _now, _streams. The first write of an act: it may raise.
local function note(by, act, on, more)
  add('audit:log', 'at', now, 'by', by, 'act', act, 'on', on, 'note', more or '')
  call('XTRIM', P .. 'audit:log', 'MAXLEN', '~', 10000)
end
