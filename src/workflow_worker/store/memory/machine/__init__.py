"""The reference model of the store: pure, synchronous transitions on plain data; time is an argument.

This is the specification of the Redis scripts. Read `state.py`, then `routing.py` (an event's fate) and `progress.py`
(a commit); `apply.py` lists the verbs. Imports `model` and `store.transitions` only: no clock, no randomness, no I/O.
"""
