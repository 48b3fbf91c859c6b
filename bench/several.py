"""``python -m bench.several <count> <command …>``: that many equal processes, ended together."""

from __future__ import annotations

import signal
import subprocess
import sys


def main() -> int:
    """Start them, wait for all; SIGTERM and SIGINT are handed on."""
    children = [subprocess.Popen(sys.argv[2:]) for _ in range(int(sys.argv[1]))]

    def end(*_: object) -> None:
        for child in children:
            child.terminate()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return max(abs(child.wait()) for child in children)


if __name__ == "__main__":
    sys.exit(main())
