"""The authoring API: an `App` with its events, actions and workflows, and ``action``, the current attempt.

Pure; may import `runtime`, `store` (its structs), `errors` and `model`. Read `registry.py` first.
"""
