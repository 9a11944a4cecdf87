"""What a step costs on each engine, by the number of objects.

python -m benchmarks.engines
The variants take turns, so that a busy machine is busy for all.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import append_json, print_table, run_script

OBJECTS = (1, 2, 10)


def main(
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    frames: Annotated[int, typer.Option(min=5, help="Steps of each variant.")] = 60,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Time the step of every installed engine, closed loop, on noise."""
    import numpy as np

    import s2svos
    from s2svos_engines.engine import SLOW_ENGINES, usable_engines

    rng = np.random.default_rng(0)
    cells = {}
    for name in (one for one in usable_engines() if one not in SLOW_ENGINES):
        tracker = s2svos.load(bundle, engine=name)
        contract = tracker.bundle.contract
        frame = rng.integers(0, 256, (contract.height, contract.width, 3), dtype=np.uint8)
        for objects in OBJECTS:
            masks = np.zeros((objects, contract.height, contract.width), np.uint8)
            masks[:, 64:128, 64:128] = 255
            cells[name, objects] = tracker.engine.cell(tracker.engine.init(frame, masks))
    samples: dict[tuple[str, int], list[float]] = {key: [] for key in cells}
    for turn in range(frames + 3):
        for key, cell in cells.items():
            # ONNX Runtime's threads spin for a while after a step and would slow the next engine.
            cell.step(frame)
            began = time.perf_counter()
            cell.step(frame)
            if turn >= 3:  # the first steps allocate
                samples[key].append(1000 * (time.perf_counter() - began))

    medians = {key: statistics.median(values) for key, values in samples.items()}
    rows = [
        [name, str(objects), f"{ms:.1f}", f"{ms / medians[name, 1]:.2f}"]
        for (name, objects), ms in medians.items()
    ]
    title = f"step at {contract.height}x{contract.width}, median of {frames}"
    print_table(title, ["engine", "objects", "ms", "to one object"], rows)
    if json:
        results = {f"{name}, {objects}": ms for (name, objects), ms in medians.items()}
        append_json(json, "engines", {"bundle": tracker.bundle.sha256, "milliseconds": results})


if __name__ == "__main__":
    run_script(main)
