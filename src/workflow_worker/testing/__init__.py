"""Tests of an author's workflows in one process: no server, a clock moved by hand, crashes where one wants them.

Start with `env.py`. What executes is the product's own executor on the product's own memory store; only the loops that
wait for time and network are replaced by `engine.py`, which is driven by hand.
"""

from workflow_worker.testing.doubles import Call, Spy
from workflow_worker.testing.env import TestEnv
from workflow_worker.testing.run import TestRun

__all__ = ["Call", "Spy", "TestEnv", "TestRun"]
