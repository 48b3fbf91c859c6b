"""`WorkflowWorker`: ingest → execute → commit, on one event loop, with one session.

May import `client`, `app`, `runtime`, `store.protocol`, `errors`, `model`. Read `intake.py`, `executor.py` and
`committer.py` in this order: they are the path of an event.
"""
