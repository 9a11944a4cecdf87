"""The time of a frame by stage, from a video file to a mask file."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np

from s2svos_engines.engine import Engine
from s2svos_engines.letterbox import Letterbox, merge_masks

STAGES = ("decode", "shrink", "upload, step, download", "merge", "write")


def stage_times(
    engine: Engine, size: tuple[int, int], *, video: Path | None, frames: int, seconds: float
) -> dict[str, float]:
    """Return the median milliseconds a frame of every stage, one after the other, one object.

    Args:
        engine: any; a GPU's transfers are part of its step.
        size: height and width of the network's frame.
        video: None draws one at 640x360.
        frames: at most.
        seconds: at most, but one frame at least.
    """
    from s2svos.video.masks import davis_palette, write_mask
    from s2svos.video.reader import Video

    times: dict[str, list[float]] = {stage: [] for stage in STAGES}

    @contextmanager
    def timed(stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        times[stage].append(1000 * (time.perf_counter() - began))

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = video or _drawn(folder / "drawn.mp4", frames)
        source = iter(Video(path, end=frames))
        _, frame = next(source)
        letterbox = Letterbox.of(frame.shape[:2], size)
        first = np.zeros(frame.shape[:2], np.uint8)
        height, width = frame.shape[:2]
        first[height // 4 : height // 2, width // 4 : width // 2] = 255
        runner = engine.runner(engine.init(letterbox.resize(frame), letterbox.resize(first)[None]))
        ids, began = np.ones(1, np.uint8), time.perf_counter()
        while not times["write"] or time.perf_counter() < began + seconds:
            with timed("decode"):
                item = next(source, None)
            if item is None:
                times["decode"].pop()
                break
            with timed("shrink"):
                small = letterbox.resize(item[1])
            with timed("upload, step, download"):
                masks = runner.step(small)
            with timed("merge"):
                labels = merge_masks(masks, ids, letterbox)
            with timed("write"):
                write_mask(folder / "mask.png", labels, davis_palette())
    return {stage: statistics.median(values) for stage, values in times.items()}


def _drawn(path: Path, frames: int) -> Path:
    from s2svos.sample.render import RATE, render
    from s2svos.video.writer import VideoWriter

    with VideoWriter(path, width=640, height=360, rate=Fraction(RATE)) as writer:
        for frame, _ in render(length=frames):
            writer.write(frame)
    return path
