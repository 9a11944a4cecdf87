"""What eight streams cost: in turn, and in one call.

python -m benchmarks.batching
The variants take turns, so that a busy machine is busy for all. One object a stream.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import append_json, print_table, run_script


def main(
    bundle: Annotated[
        Path | None, typer.Option(help="Exported with --batch. Default: the one that ships.")
    ] = None,
    engine: Annotated[
        list[str] | None, typer.Option(help="May be repeated. Default: all that are fast.")
    ] = None,
    streams: Annotated[int, typer.Option(min=2, help="How many.")] = 8,
    precision: Annotated[str, typer.Option(help="Of the graphs.")] = "fp32",
    rounds: Annotated[int, typer.Option(min=3, help="Frames of each stream.")] = 20,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Time a frame of each of many streams on every fast engine."""
    from s2svos_engines.engine import SLOW_ENGINES, usable_engines

    engines = engine or [name for name in usable_engines() if name not in SLOW_ENGINES]
    variants = {
        (name, how): run
        for name in engines
        for how, run in ways(bundle, name, streams, precision=precision)
    }
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in variants}
    for turn in range(rounds + 2):
        for key, run in variants.items():
            began = time.perf_counter()
            run()
            if turn >= 2:  # the first ones compile and allocate
                samples[key].append(1000 * (time.perf_counter() - began) / streams)
    medians = {key: statistics.median(values) for key, values in samples.items()}
    rows = [
        [name, how, f"{ms:.2f}", f"{1000 / ms:.1f}", f"{ms / medians[name, 'in turn']:.2f}"]
        for (name, how), ms in medians.items()
    ]
    title = f"a frame of {streams} streams, ms a frame, median of {rounds}"
    print_table(title, ["engine", "how", "ms", "frames/s", "to in turn"], rows)
    if json:
        results = {f"{name}, {how}": ms for (name, how), ms in medians.items()}
        facts = {"streams": streams, "precision": precision, "milliseconds": results}
        append_json(json, "batching", facts)


def ways(
    bundle: Path | None, engine: str, streams: int, *, precision: str
) -> list[tuple[str, Callable[[], object]]]:
    """Ways to step so many streams by a frame each."""
    import numpy as np

    import s2svos
    from s2svos_engines.errors import UserError
    from s2svos_engines.tracker import Stream

    tracker = s2svos.load(bundle, engine=engine, precision=precision)
    if not tracker.engine.batches:
        raise UserError(f"{bundle} has no batch graph; export it with --batch.")
    size = tracker.bundle.contract.height, tracker.bundle.contract.width
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[64:128, 64:128] = 1

    def opened() -> list[Stream]:
        return [tracker.open(frame, mask) for _ in range(streams)]

    turns, batch = opened(), opened()
    return [
        ("in turn", lambda: [one.step(frame) for one in turns]),
        ("one call", lambda: tracker.step_many(dict.fromkeys(batch, frame))),
    ]


if __name__ == "__main__":
    run_script(main)
