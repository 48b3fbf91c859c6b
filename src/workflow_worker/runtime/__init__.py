"""The workflow's side: a pure replay engine that maps history and new records to commands.

May import `errors` and `model` only, and no clock, I/O or logger. Read `execution.py` first; `loop.py` is the
event loop that workflow code runs on, `ordering.py` and `nesting.py` hold what we change in asyncio and for how long.
"""
