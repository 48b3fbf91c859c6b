"""Seeded simulation of the store's protocol: workers, producers, an operator and faults around the memory model.

Virtual time, one thread, no I/O; the same seed gives the same trace. Read `world.py` first, then `specification.py`,
which predicts the fate of every event without asking the machine.
Replay one seed: ``python -m tests.simulation SEED -v``.
"""
