"""Are the tests any good? Each safeguard of the protocol is broken, one at a time, and some test must turn red.

`mutations.py` lists what is broken and who should notice, `trial.py` breaks a copy of the tree and asks them.
The table: ``python -m tests.mutation`` (writes ``RESULTS.md``); one: ``python -m tests.mutation "no fence"``.
`tests/contract/mutants.py` holds more mutants of the Lua alone, which its own suite must kill.
"""
