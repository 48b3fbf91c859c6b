"""Seeded simulation of the store's protocol: workers, producers, an operator and faults, in virtual time.

One thread; the same seed gives the same trace. Level 1 has the memory machine at its centre and no I/O. Level 2 lets a
real server take every step beside the machine, by the real scripts, and demands the same answers. Read `world.py`
first, then `specification.py`, which predicts the fate of every event without asking anybody, then `real_server.py`.
Replay one seed: ``python -m tests.simulation --seed N [--level 2] [--dense] [-v] [--shrink]``.
"""
