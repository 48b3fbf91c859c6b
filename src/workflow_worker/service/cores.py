"""How many cores this process may use: the default of WORKER_COUNT."""

from __future__ import annotations

import os
from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Cores by affinity, cut to the quota of the control group (a container's limit), at least 1.

    Files: ``cpu.max`` of cgroup v2 and ``cpu.cfs_*`` of v1, https://docs.kernel.org/admin-guide/cgroup-v2.html
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, cores if quota is None else min(cores, quota))


def _quota(cgroup: Path) -> int | None:
    """Whole cores, rounded up: half a core is one worker."""
    try:
        limit, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            limit = (cgroup / "cpu" / "cpu.cfs_quota_us").read_text().strip()
            period = (cgroup / "cpu" / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if not (limit.isdigit() and period.isdigit() and int(period)):
        return None  # "max", or -1: no limit
    return -(-int(limit) // int(period))
