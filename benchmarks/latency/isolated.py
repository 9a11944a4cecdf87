"""A variant alone in a new process: cold start, time to the first mask, peak of the memory.

python -m benchmarks.latency.isolated BUNDLE ENGINE PRECISION OBJECTS THREADS
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()
STEPS = 5


def measure_alone(
    bundle: Path, engine: str, precision: str, objects: int, threads: int, *, limit: float
) -> dict[str, Any] | None:
    """Return what :func:`main` prints, and ``cold_start_seconds`` from its start to a mask.

    None where it failed, or took longer than ``limit`` seconds.
    """
    from benchmarks.latency.gpu import gpu_state

    before = gpu_state()
    command = [sys.executable, "-m", "benchmarks.latency.isolated", str(bundle.resolve()), engine]
    command += [precision, str(objects), str(threads)]
    began = time.time()
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=limit)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    result["cold_start_seconds"] = result.pop("first_mask_at") - began
    during = result.pop("gpu")
    # Of the whole GPU, less what others held: right where nothing else starts or stops meanwhile.
    result["device_mib"] = (
        float(during["memory.used"]) - float(before["memory.used"]) if during and before else None
    )
    return result


def main() -> None:
    """Load, follow a few frames, print one line of JSON."""
    from benchmarks.latency.gpu import gpu_state
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.registry import load_engine

    path, name, precision, objects, threads = sys.argv[1:]
    bundle = Bundle.open(Path(path))
    engine = load_engine(bundle, name, precision=precision, threads=int(threads))
    loaded = time.perf_counter()
    import numpy as np

    contract = bundle.contract
    frame = np.full((contract.height, contract.width, 3), 128, np.uint8)
    masks = np.zeros((int(objects), contract.height, contract.width), np.uint8)
    masks[:, contract.height // 4 : contract.height // 2, contract.width // 4 :] = 255
    runner = engine.runner(engine.init(frame, masks))
    runner.step(frame)
    first, now = time.perf_counter(), time.time()
    for _ in range(STEPS):
        runner.step(frame)
    print(
        json.dumps(
            {
                "load_seconds": loaded - BEGAN,
                "first_mask_seconds": first - BEGAN,
                "first_mask_at": now,
                "host_mib": peak_mib(),
                "gpu": gpu_state(),
            }
        )
    )


def peak_mib() -> float:
    """Return the most memory that this process has held, in MiB."""
    status = Path("/proc/self/status")
    if status.is_file():
        # Not getrusage: what it tells begins with the peak of the process that started this one.
        line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM:"))
        return float(line.split()[1]) / 2**10
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


if __name__ == "__main__":
    main()
