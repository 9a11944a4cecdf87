"""Whether ``infer`` on a video ten times as long takes ten times as long, in the same memory.

python -m benchmarks.long_video --video VIDEO --mask FIRST.png
"""

from __future__ import annotations

import itertools
import json as json_module
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.report import append_json, print_table, run_script
from s2svos.video.writer import VideoWriter
from s2svos_engines.errors import UserError

_RATE = Fraction(25)

Frames = list[NDArray[np.uint8]]


@dataclass(frozen=True)
class Run:
    """One ``infer`` in a process of its own.

    Args:
        frames: of the video.
        seconds: from opening the video to the last mask, loading the network left aside.
        ms_a_frame: of those after the first mask.
        peak_mib: the most memory that the process held.
    """

    frames: int
    seconds: float
    ms_a_frame: float
    peak_mib: float


def main(
    video: Annotated[Path | None, typer.Option(help="Default: the clip that demo draws.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Of its first frame.")] = None,
    frames: Annotated[int, typer.Option(min=10, help="Of the short video.")] = 100,
    times: Annotated[int, typer.Option(min=2, help="How much longer the long one is.")] = 10,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each, in turns.")] = 3,
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or auto.")] = "auto",
    overlay: Annotated[bool, typer.Option("--overlay", help="Write overlay.mp4 too.")] = False,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Follow the objects of a short and of a long video, to and fro through the same frames."""
    if (video is None) != (mask is None):
        raise UserError("--video and --mask belong together", "give both or none")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, first = _clip(video, mask, folder, frames)
        short, long = folder / "short.mp4", folder / "long.mp4"
        _write(short, clip, frames)
        _write(long, clip, times * frames)
        options = ["--mask", str(first), "--engine", engine]
        options += [] if overlay else ["--no-overlay"]
        options += ["--bundle", str(bundle)] if bundle else []
        runs: dict[Path, list[Run]] = {short: [], long: []}
        for _, path in itertools.product(range(repeat), (short, long)):
            runs[path].append(_infer(path, options, folder / "out"))
        told = json_module.loads((folder / "out" / "run.json").read_text())

    ratios = _ratios(runs[short], runs[long])
    rows = [
        [str(run.frames), f"{run.seconds:.2f}", f"{run.ms_a_frame:.2f}", f"{run.peak_mib:.0f}"]
        for path in (short, long)
        for run in runs[path]
    ]
    columns = ["frames", "seconds without loading", "ms a frame after the first", "peak MiB"]
    print_table("infer, each in a process of its own", columns, rows)
    typer.echo(f"{times} times as many frames: {ratios['seconds']:.3f} times as long,")
    typer.echo(f"{ratios['ms_a_frame']:.3f} times as long a frame,")
    typer.echo(f"{ratios['peak_mib']:.3f} times as much memory; medians of pairs")
    if json:
        results = {
            "engine": told["engine"],
            "bundle": told["bundle_sha256"],
            "size": told["size"],
            "overlay": overlay,
            "runs": [asdict(run) for path in (short, long) for run in runs[path]],
            "ratios": ratios,
        }
        append_json(json, "long_video", results)


def _ratios(short: list[Run], long: list[Run]) -> dict[str, float]:
    """Long / short, each divided by the one just before it: medians of those pairs."""
    return {
        field: statistics.median(
            getattr(after, field) / getattr(before, field)
            for before, after in zip(short, long, strict=True)
        )
        for field in ("seconds", "ms_a_frame", "peak_mib")
    }


def _clip(video: Path | None, mask: Path | None, folder: Path, frames: int) -> tuple[Frames, Path]:
    """At most ``frames`` frames, and the mask of the first."""
    if video and mask:
        from s2svos.video.reader import Video

        return [frame for _, frame in Video(video, end=frames)], mask
    from s2svos.sample.render import render
    from s2svos.video.masks import davis_palette, write_mask

    drawn = list(render(length=24))
    first = folder / "first.png"
    write_mask(first, drawn[0][1], davis_palette())
    return [frame for frame, _ in drawn], first


def _write(path: Path, clip: Frames, frames: int) -> None:
    height, width = clip[0].shape[:2]
    with VideoWriter(path, width=width, height=height, rate=_RATE) as writer:
        for frame in itertools.islice(_to_and_fro(clip), frames):
            writer.write(frame)


def _to_and_fro(clip: Frames) -> Iterator[NDArray[np.uint8]]:
    """Endless, so that no frame is far from the one before."""
    return itertools.cycle([*clip, *clip[-2:0:-1]])


def _infer(video: Path, options: list[str], out: Path) -> Run:
    command = [sys.executable, "-m", "s2svos", "infer", str(video), "--out", str(out)]
    errors = out.with_suffix(".errors")
    with errors.open("w") as file:
        process = subprocess.Popen(
            [*command, "--overwrite", *options], stdout=subprocess.DEVNULL, stderr=file
        )
        # Of this process alone. Where it starts from is this script's peak, which is far less.
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"s2svos infer failed: {errors.read_text().strip()}")
    run = json_module.loads((out / "run.json").read_text())
    frames, seconds = run["frames"], run["seconds"]
    return Run(
        frames=frames,
        seconds=seconds["total"] - seconds["load"],
        # The first mask is the one given, the second the network's first.
        ms_a_frame=1000 * (seconds["total"] - seconds["first_mask"]) / (frames - 2),
        peak_mib=usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10),
    )


if __name__ == "__main__":
    run_script(main)
