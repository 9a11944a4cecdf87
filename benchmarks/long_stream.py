"""Whether memory stays constant: thousands of frames through one stream.

python -m benchmarks.long_stream --frames 3000
"""

from __future__ import annotations

import itertools
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import append_json, describe, print_table, run_script

_EVERY = 100  # frames between samples; as many go before the first


def main(
    frames: Annotated[int, typer.Option(min=2 * _EVERY, help="How many to step.")] = 3000,
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or auto.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Step one stream through the demonstration clip again and again; watch resident memory."""
    import s2svos
    from s2svos.demo.render import render
    from s2svos_engines.tracker import Tracker

    clip = list(render(length=24))
    tracker = Tracker.load(bundle or s2svos.default_bundle(), engine=engine)
    stream = tracker.open(*clip[0])
    # To and fro, so that no frame is far from the one before.
    there_and_back = itertools.cycle([*clip[1:], *clip[-2::-1]])
    samples = []
    for index, (frame, _) in enumerate(itertools.islice(there_and_back, frames), 1):
        stream.step(frame)
        if index % _EVERY == 0:
            samples.append(resident_bytes())
    growth = 100 * (samples[-1] / samples[0] - 1)
    rows = [[str(_EVERY * n), f"{size / 2**20:.1f}"] for n, size in enumerate(samples, 1)]
    title = f"{frames} frames through one stream, {tracker.engine_name}"
    print_table(title, ["frame", "resident MiB"], rows)
    typer.echo(f"growth from frame {_EVERY} to frame {_EVERY * len(samples)}: {growth:+.2f} %")
    if json:
        results = {"frames": frames, "resident_bytes": samples, "growth_percent": growth}
        append_json(json, "long_stream", {**describe(tracker), **results})


def resident_bytes() -> int:
    """Memory of this process that is in RAM; elsewhere than on Linux, its highest so far."""
    statm = Path("/proc/self/statm")
    if statm.is_file():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


if __name__ == "__main__":
    run_script(main)
