"""A worker process under cProfile: the product's own child module, its profile written to the file BENCH_PROFILE."""

from __future__ import annotations

import cProfile
import os
import sys

from bench.ours.service import PROFILE_VARIABLE
from workflow_worker.service.child import main

if __name__ == "__main__":
    profile = cProfile.Profile()
    code = profile.runcall(main)
    profile.dump_stats(os.environ[PROFILE_VARIABLE])
    sys.exit(code)
