"""The supervisor of one server's workers: processes, health, metrics, scaling, reload, logs.

May import `worker` and everything below it. Nothing is imported here, because a worker process starts in `child.py`
and must stay small. Read `service.py` first; then `process.py` and `child.py`, which are the two ends of one worker
process. `health.py` and `scaling.py` decide and do nothing else; `facts.py` says what may be reported.
"""
