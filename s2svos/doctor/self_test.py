"""Runs one engine over a clip: ``python -m s2svos.doctor.self_test``.

A process of its own, as a broken library may take its process down with it.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine


@dataclass(frozen=True)
class Result:
    """What came of following objects.

    Args:
        masks: bool [steps, N, H, W], of each step.
        milliseconds: float [steps], that each took.
        seconds: to load the engine and start.
    """

    masks: NDArray[np.bool_]
    milliseconds: NDArray[np.float64]
    seconds: float


def self_test(bundle: Bundle, engine: str, precision: str, clip: Path, steps: int) -> Result:
    """Follows the clip's objects, to its end, back to its beginning and so on.

    Args:
        bundle: with the network.
        engine: to test.
        precision: of the graphs.
        clip: ``.npz`` with ``frames``, uint8 [T, H, W, 3], and ``first_masks``, uint8 [N, H, W],
            of the network's size.
        steps: frames to follow.

    Raises:
        UserError: the engine or the bundle cannot be used.
    """
    with np.load(clip) as arrays:
        frames, first_masks = arrays["frames"], arrays["first_masks"]
    began = time.perf_counter()
    loaded = load_engine(bundle, engine, precision=precision)
    runner = loaded.runner(loaded.init(frames[0], first_masks))
    result = Result(
        masks=np.zeros((steps, *first_masks.shape), np.bool_),
        milliseconds=np.zeros(steps),
        seconds=time.perf_counter() - began,
    )
    for step in range(steps):
        frame = frames[back_and_forth(step + 1, len(frames))]
        began = time.perf_counter()
        found = runner.step(frame)
        result.milliseconds[step] = 1e3 * (time.perf_counter() - began)
        result.masks[step] = found > 127
    return result


def back_and_forth(step: int, count: int) -> int:
    """Index of a step's frame, of ``count`` that are run through to the last, back, and so on."""
    place = step % (2 * (count - 1))
    return min(place, 2 * (count - 1) - place)


def main() -> None:
    """Runs the self-test that the command line asks for, and writes its results."""
    parser = argparse.ArgumentParser()
    for name in ("bundle", "engine", "precision", "clip", "steps", "out"):
        parser.add_argument(name)
    options = parser.parse_args()
    try:
        result = self_test(
            Bundle.open(Path(options.bundle)),
            options.engine,
            options.precision,
            Path(options.clip),
            int(options.steps),
        )
    except UserError as error:
        print(error)  # and not among what libraries write to the error stream
        sys.exit(error.exit_code)
    np.savez_compressed(options.out, **asdict(result))


if __name__ == "__main__":
    main()
