"""The service's small web server: health, metrics, workers, scaling, events. May import `service` and below.

Read `server.py` first (a thread of its own), then `api.py` (what is answered) and `guard.py` (who may ask).
"""
