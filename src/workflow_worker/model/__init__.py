"""Immutable data that every other layer speaks in; imports nothing of ours, no I/O, no clock.

Read `run.py` and `record.py` first: a run and its history are what the product is about.
"""
