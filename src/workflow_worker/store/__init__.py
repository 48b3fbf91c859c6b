"""The Store protocol, its memory model (the specification) and its Redis form.

Read `protocol.py` (the verbs) and `transitions.py` (what they take and answer) first. May import `model` only.
"""
