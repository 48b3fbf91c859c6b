"""The command ``workflow-worker``: one module per command, put together in `main.py`.

The composition root: only here the environment is read and turned into settings. May import everything below.
"""
