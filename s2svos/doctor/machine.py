"""The processor, how much of it this process may use, and the video encoder."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from pathlib import Path

from s2svos.doctor.finding import Finding, State
from s2svos.evaluation.environment import environment

CPUINFO = Path("/proc/cpuinfo")
CGROUP = Path("/sys/fs/cgroup")

# By the flags of x86 and Arm in /proc/cpuinfo.
FEATURES = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI for int8": {"avx512_vnni", "avx_vnni"},
    "AMX for int8": {"amx_int8"},
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "dot product for int8": {"asimddp", "i8mm"},
}


def examine_processor() -> Iterator[Finding]:
    """Its model, and what it has that engines make use of."""
    model, flags = environment()["cpu"], _flags()
    has = [name for name, any_of in FEATURES.items() if flags & any_of]
    lacks = ", ".join(name for name in FEATURES if name not in has)
    text = f"{model}, {platform.machine()}"
    if flags:
        text = f"{text}: {', '.join(has) or 'nothing special'}; no {lacks}"
    yield Finding("processor", State.INFO, text, figures={"model": model, "features": has})


def examine_cores() -> Iterator[Finding]:
    """How many there are, and how many of them this process may use."""
    there = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    quota = _quota()
    figures = {"cores": there, "usable": usable, "quota": quota}
    text = f"{there} in the machine, {usable} for this process"
    if quota is None or quota >= usable:
        yield Finding("cores", State.OK, text, figures=figures)
        return
    text = f"{text}, but the container may use the time of {quota:g}: more threads have to wait"
    remedy = f"Say --threads {max(1, int(quota))} to s2svos infer."
    yield Finding("cores", State.INFO, text, remedy, figures)


def examine_encoder() -> Iterator[Finding]:
    """Whether overlay.mp4 can be written."""
    try:
        from av import codecs_available
    except ImportError:
        return  # a finding of the packages
    if "libx264" in codecs_available:
        yield Finding("H.264", State.OK, "PyAV has the encoder libx264")
    else:
        yield Finding(
            "H.264",
            State.PROBLEM,
            "PyAV was built without the encoder libx264, so that overlay.mp4 cannot be written",
            "pip install --force-reinstall --only-binary av av",
        )


def _flags() -> set[str]:
    """What the first core can do; nothing where the system does not tell."""
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else ()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return set(value.split())
    return set()


def _quota() -> float | None:
    """Cores' worth of time that the control group may use; None for no limit."""
    second = CGROUP / "cpu.max"
    first = [CGROUP / "cpu" / f"cpu.cfs_{name}_us" for name in ("quota", "period")]
    try:
        words = second.read_text().split() if second.exists() else [f.read_text() for f in first]
        quota, period = map(float, words)
    except (OSError, ValueError):  # no such file, or "max"
        return None
    return quota / period if quota > 0 else None
