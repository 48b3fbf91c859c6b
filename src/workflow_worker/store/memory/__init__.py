"""The Store in memory: the specification (`machine/`) and a `Store` over it for tests and simulations.

Read `machine/state.py` first. May import `model` and the store's own protocol only.
"""
