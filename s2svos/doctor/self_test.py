"""Runs one engine over a clip: ``python -m s2svos.doctor.self_test``.

A process of its own, as a broken library may take its process down with it.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.closed_loop import NetworkClip, ping_pong
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine


@dataclass(frozen=True)
class Result:
    """Masks and times of a self-test.

    Args:
        masks: uint8 [steps, N, H, W], of each step.
        milliseconds: float [steps], of each step.
        seconds: to load the engine and start.
    """

    masks: NDArray[np.uint8]
    milliseconds: NDArray[np.float64]
    seconds: float


def self_test(bundle: Bundle, engine: str, precision: str, clip: Path, steps: int) -> Result:
    """Follow the clip's objects, to its end, back to its beginning and so on.

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
        first, *frames = arrays["frames"]
        first_masks = arrays["first_masks"]
    began = time.perf_counter()
    loaded = load_engine(bundle, engine, precision=precision)
    runner = NetworkClip((), first, first_masks, frames).start(loaded)
    result = Result(
        masks=np.zeros((steps, *first_masks.shape), np.uint8),
        milliseconds=np.zeros(steps),
        seconds=time.perf_counter() - began,
    )
    for step, frame in enumerate(islice(ping_pong(chain([first], frames)), 1, steps + 1)):
        began = time.perf_counter()
        masks = runner.step(frame)
        result.milliseconds[step] = 1e3 * (time.perf_counter() - began)
        result.masks[step] = masks
    return result


def main() -> None:
    """Run the self-test that the command line asks for, and write its results."""
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
        # To standard output, apart from what libraries write to the error stream.
        print(json.dumps({"problem": error.problem, "remedy": error.remedy}))
        sys.exit(error.exit_code)
    np.savez_compressed(options.out, **asdict(result))


if __name__ == "__main__":
    main()
