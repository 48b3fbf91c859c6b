"""Classification of errors (who can help?) and what to do after one: pure, and nothing of a stranger is ever imported.

May import `model`. Read `verdict.py`, then `classifier.py`, then `retry.py`; `catalogue.py` is a table.
"""
