"""What the way from a video file to masks on disk costs beside the engine itself.

python -m benchmarks.end_to_end VIDEO --mask FIRST.png
Every variant is measured in turn, again and again, so that a busy machine is busy for all.
"""

from __future__ import annotations

import json as json_module
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.report import append_json, describe, print_table, run_script

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from s2svos.video.masks import FirstMask
    from s2svos_engines.tracker import Tracker

    Arrays = list[NDArray[np.uint8]]

ENGINE = "engine alone"
AHEAD = "engine alone, calls ahead"
WHOLE = "infer"
NO_OVERLAY = "infer without overlay"
ONE_OBJECT = "engine alone, first object"
MASKS = "masks to PNG alone"


def main(
    video: Annotated[Path, typer.Argument(help="The video.")],
    mask: Annotated[Path, typer.Option(help="Mask of its first frame.")],
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or auto.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8.")] = "fp32",
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each; the median counts.")] = 3,
    frames: Annotated[int | None, typer.Option(min=2, help="Only so many; default: all.")] = None,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Compare the engine in a bare loop with the whole run, in frames a second."""
    from s2svos.shipped import bundle_path
    from s2svos.video.masks import read_first_mask
    from s2svos.video.reader import Video
    from s2svos_engines.tracker import Tracker

    source = Video(video, end=frames)
    first = read_first_mask(mask, size=(source.height, source.width))
    pictures = [frame for _, frame in source]
    bundle = bundle_path(bundle)
    began = time.perf_counter()
    tracker = Tracker.load(bundle, engine=engine, precision=precision)
    load = time.perf_counter() - began

    labels = _step_all(tracker, pictures, first.ids)  # warms up
    tracker.open(pictures[0], first.ids).steps(pictures[1:])
    samples: dict[str, list[float]] = {}
    starts = []
    for _ in range(repeat):
        for name, taken in _measure(tracker, video, frames, first, pictures, labels).items():
            samples.setdefault(name, []).append(taken)
        starts.append(_fresh_process(video, mask, bundle, engine, precision, frames))

    seconds = {name: statistics.median(values) for name, values in samples.items()}
    rates = {name: len(pictures) / value for name, value in seconds.items()}
    ratios = {
        f"{WHOLE} / {ENGINE}": rates[WHOLE] / rates[ENGINE],
        f"{NO_OVERLAY} / {ENGINE}": rates[NO_OVERLAY] / rates[ENGINE],
    }
    if ONE_OBJECT in rates:
        ratios[f"{ENGINE} / {ONE_OBJECT}"] = rates[ENGINE] / rates[ONE_OBJECT]
    start = {key: statistics.median(one[key] for one in starts) for key in starts[0]}

    title = (
        f"{len(pictures)} frames {source.width}x{source.height}, {len(first.objects)} object(s), "
        f"{tracker.engine_name} {precision}, median of {repeat}"
    )
    rows = [
        [name, f"{rate:.1f}", f"{1000 / rate:.2f}", f"{_spread(samples[name]):.0f} %"]
        for name, rate in rates.items()
    ]
    print_table(title, ["", "frames/s", "ms/frame", "max-min"], rows)
    print_table("frames/s compared", ["", "ratio"], [[k, f"{v:.3f}"] for k, v in ratios.items()])
    times = [["load, warm", f"{load:.2f}"], *([k, f"{v:.2f}"] for k, v in start.items())]
    print_table("seconds before the first mask", ["", "s"], times)
    if json:
        results = {
            **describe(tracker),
            "precision": precision,
            "frames": len(pictures),
            "size": [source.width, source.height],
            "objects": len(first.objects),
            "load_seconds": load,
            "seconds": samples,
            "frames_per_second": rates,
            "ratios": ratios,
            "start": starts,
        }
        append_json(json, "end_to_end", results)


def _measure(
    tracker: Tracker,
    video: Path,
    frames: int | None,
    first: FirstMask,
    pictures: Arrays,
    labels: Arrays,
) -> dict[str, float]:
    """Seconds of each variant once, over all frames with the first one's start of the stream."""
    seconds = {}
    began = time.perf_counter()
    _step_all(tracker, pictures, first.ids)
    seconds[ENGINE] = time.perf_counter() - began
    began = time.perf_counter()
    tracker.open(pictures[0], first.ids).steps(pictures[1:])
    seconds[AHEAD] = time.perf_counter() - began
    for name, overlay in [(WHOLE, True), (NO_OVERLAY, False)]:
        seconds[name] = _infer(tracker, video, frames, first, overlay)
    if len(first.objects) > 1:
        one = first.ids * (first.ids == first.objects[0])
        began = time.perf_counter()
        _step_all(tracker, pictures, one)
        seconds[ONE_OBJECT] = time.perf_counter() - began
    seconds[MASKS] = _write_masks(labels, first.palette)
    return seconds


def _step_all(tracker: Tracker, pictures: Arrays, ids: NDArray[np.uint8]) -> Arrays:
    stream = tracker.open(pictures[0], ids)
    return [ids, *(stream.step(frame) for frame in pictures[1:])]


def _infer(
    tracker: Tracker, video: Path, frames: int | None, first: FirstMask, overlay: bool
) -> float:
    """Seconds of ``infer`` with a tracker that is loaded already."""
    from s2svos.inference.run import infer
    from s2svos.video.reader import Video

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        source = Video(video, end=frames)
        infer(source, first, lambda: tracker, out=Path(folder) / "out", overlay=overlay)
        return time.perf_counter() - began


def _write_masks(labels: Arrays, palette: bytes) -> float:
    from s2svos.video.masks import write_mask

    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        for index, ids in enumerate(labels):
            write_mask(Path(folder) / f"{index:05d}.png", ids, palette)
        return time.perf_counter() - began


def _fresh_process(
    video: Path, mask: Path, bundle: Path, engine: str, precision: str, frames: int | None
) -> dict[str, float]:
    """Seconds until a new ``s2svos infer`` has written the network's first mask.

    ``wall clock`` is seen from outside, ``inside infer`` is what run.json tells; the difference is
    Python's start, imports and reading the inputs.
    """
    from s2svos import UserError

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "s2svos", "infer", str(video), "--mask", str(mask)]
        command += ["--out", str(out), "--bundle", str(bundle), "--engine", engine]
        command += ["--precision", precision]
        command += ["--end", str(frames)] if frames else []
        began = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        # The first PNG repeats the mask that was given; the second is the network's.
        while process.poll() is None and len(list((out / "masks").glob("*.png"))) < 2:
            time.sleep(0.002)
        wall = time.perf_counter() - began
        _, message = process.communicate()
        if process.returncode:
            raise UserError(f"s2svos infer failed: {message.strip()}")
        run: dict[str, Any] = json_module.loads((out / "run.json").read_text())
    inside = float(run["seconds"]["first_mask"])
    return {"fresh process, wall clock": wall, "fresh process, inside infer": inside}


def _spread(values: list[float]) -> float:
    """Largest less smallest, in percent of the median."""
    return 100 * (max(values) - min(values)) / statistics.median(values)


if __name__ == "__main__":
    run_script(main)
