"""What processors this process may use: how many, and with which instructions."""

from __future__ import annotations

import os
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_CGROUP = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")


def cpu_count() -> int:
    """Return how many processors this process may keep busy, at least 1.

    The machine's, less those that ``taskset`` or a scheduler took away (Linux alone can tell), and
    no more than a container's quota of processor time buys.
    """
    available = usable_cpus()
    quota = cpu_quota()
    return available if quota is None else max(1, min(available, int(quota)))


def usable_cpus() -> int:
    """Return how many processors this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_quota() -> float | None:
    """Return how many processors' time the container may use; None if there is no limit.

    The least quota of the process's control group and those above it: ``cpu.max`` of cgroup v2, or
    ``cpu.cfs_quota_us`` of v1.
    """
    try:
        own = _OWN_CGROUP.read_text().partition("::")[2].partition("\n")[0].lstrip("/")
    except OSError:  # no Linux
        return None
    folder, first = _CGROUP / own, _CGROUP / "cpu"
    files = [[above / "cpu.max"] for above in (folder, *folder.parents)]
    files.append([first / "cpu.cfs_quota_us", first / "cpu.cfs_period_us"])
    return min((quota for each in files if (quota := _quota(each))), default=None)


def cpu_flags() -> frozenset[str]:
    """Return the names that Linux has for what the processor can; none on other systems."""
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else ()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def int8_pays() -> bool:
    """Return whether the processor sums products of 8 bits faster than those of float32.

    Without VNNI too: with AVX2 alone a step of ``lite`` took 0.82 x (OpenVINO) and 0.86 x (ONNX
    Runtime) the time of fp32.
    """
    return "avx2" in cpu_flags()


def _quota(files: list[Path]) -> float | None:
    """Return quota / period of "150000 100000" (microseconds); None for "max", -1 or no file."""
    try:
        quota, period = " ".join(file.read_text() for file in files).split()
        return max(0, int(quota)) / int(period) or None
    except (OSError, ValueError, ZeroDivisionError):
        return None
