"""What eight streams cost: in turn, a core each, and in one call.

python -m benchmarks.batching BUNDLE
The bundle is one exported with --batch. The variants take turns, so that a busy machine is busy for
all. One object a stream.
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
    bundle: Annotated[Path, typer.Argument(help="Exported with --batch.")],
    streams: Annotated[int, typer.Option(min=2, help="How many.")] = 8,
    rounds: Annotated[int, typer.Option(min=3, help="Frames of each stream.")] = 20,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Time a frame of each of many streams on every fast engine."""
    from s2svos_engines.engine import SLOW_ENGINES, usable_engines

    engines = [name for name in usable_engines() if name not in SLOW_ENGINES]
    variants = {(name, how): run for name in engines for how, run in ways(bundle, name, streams)}
    samples: dict[tuple[str, str], list[float]] = {key: [] for key in variants}
    for turn in range(rounds + 2):
        for key, run in variants.items():
            began = time.perf_counter()
            run()
            if turn >= 2:  # the first ones compile and allocate
                samples[key].append(1000 * (time.perf_counter() - began) / streams)
    medians = {key: statistics.median(values) for key, values in samples.items()}
    rows = [
        [engine, how, f"{ms:.1f}", f"{ms / medians[engine, 'in turn']:.2f}"]
        for (engine, how), ms in medians.items()
    ]
    title = f"a frame of {streams} streams, ms a frame, median of {rounds}"
    print_table(title, ["engine", "how", "ms", "to in turn"], rows)
    if json:
        results = {f"{engine}, {how}": ms for (engine, how), ms in medians.items()}
        append_json(json, "batching", {"streams": streams, "milliseconds": results})


def ways(bundle: Path, engine: str, streams: int) -> list[tuple[str, Callable[[], object]]]:
    """Ways to step so many streams by a frame each."""
    import numpy as np

    from s2svos_engines.errors import UserError
    from s2svos_engines.tracker import Stream, Tracker

    whole = Tracker.load(bundle, engine=engine)
    shared = Tracker.load(bundle, engine=engine, threads=1)
    if not whole.engine.batches:
        raise UserError(f"{bundle} has no batch graph; export it with --batch.")
    size = whole.bundle.contract.height, whole.bundle.contract.width
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[64:128, 64:128] = 1

    def opened(tracker: Tracker) -> list[Stream]:
        return [tracker.open(frame, mask) for _ in range(streams)]

    turns, alone, batch = opened(whole), opened(shared), opened(whole)
    shared.engine.batches = False
    return [
        ("in turn", lambda: [one.step(frame) for one in turns]),
        ("a core each", lambda: shared.step_many(dict.fromkeys(alone, frame))),
        ("one call", lambda: whole.step_many(dict.fromkeys(batch, frame))),
    ]


if __name__ == "__main__":
    run_script(main)
