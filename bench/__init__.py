"""The benchmark harness: `make bench`, or ``python -m bench --help``.

Everything is measured in one run, on one server: a bare client as the yardstick, this project, and peers, each peer in
a throw-away environment of its own. Read `scenarios.py` first. The modules `ticks`, `load` and `peers.<name>_peer` also
run inside the peers' environments, so they and this package's ``__init__`` import nothing but the standard library (and
the peer).
"""
