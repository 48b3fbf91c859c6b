"""The service's small web server: health, metrics, workers, scaling, events, runs and dead letters.

Read `server.py` first (a thread of its own), then `api.py` and `operations.py` (what is answered), and `guard.py` (who
may ask). May import `service` and below.
"""
