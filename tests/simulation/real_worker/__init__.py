"""The real `WorkflowWorker` in a simulated world: virtual time, a lossy network, killed and paused processes.

Read `world.py` first. ``python -m tests.simulation.real_worker SEED -v`` replays a seed.
"""
