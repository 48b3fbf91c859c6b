"""What producers, operators and the faces on top of us use: publish, start, operate, look.

May import `app`, `store`, `runtime`, `errors`, `model`. Read `client.py` first; `opening.py` makes the store behind it.
"""
