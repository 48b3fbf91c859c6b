"""``python -m workflow_worker`` is the command ``workflow-worker``."""

from __future__ import annotations

from workflow_worker.cli.main import main

if __name__ == "__main__":
    main()
