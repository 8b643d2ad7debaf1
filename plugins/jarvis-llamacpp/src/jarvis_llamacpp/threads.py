"""How many threads to compute with."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

_CPUS = Path("/sys/devices/system/cpu")
_CGROUP = Path("/sys/fs/cgroup")


def default_threads() -> int:
    """Physical cores that this process may use; from eight on one is left for everything else.

    Two threads on one physical core slow each other down, and one thread too many stalls all:
    they wait for each other after every operation.
    """
    cores = _performance_cores() if sys.platform == "darwin" else _cores_by_affinity()
    quota = cpu_quota(_CGROUP)
    if quota is not None:
        cores = min(cores, max(1, math.floor(quota)))
    return cores - 1 if cores >= 8 else cores


def _cores_by_affinity() -> int:
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    return count_cores(os.sched_getaffinity(0), _CPUS)


def count_cores(cpus: set[int], folder: Path) -> int:
    """Physical cores behind logical CPUs.

    Args:
        cpus: Numbers of logical CPUs.
        folder: Where the kernel describes them.
    """
    cores = set()
    for cpu in cpus:
        try:
            cores.add((folder / f"cpu{cpu}/topology/thread_siblings_list").read_text())
        except OSError:
            cores.add(str(cpu))
    return max(1, len(cores))


def cpu_quota(folder: Path) -> float | None:
    """CPUs that the container may use, None without a limit."""
    try:
        quota, period = (folder / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        return None


def _performance_cores() -> int:
    try:
        found = subprocess.run(
            ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
        return max(1, int(found.stdout))
    except (OSError, ValueError, subprocess.SubprocessError):
        return os.cpu_count() or 1
