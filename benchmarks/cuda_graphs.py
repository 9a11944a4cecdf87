"""How the state goes from step to step on a GPU, and what a CUDA graph saves.

python -m benchmarks.cuda_graphs
The ways take turns. In closed loop a frame comes when the masks of the one before are there; ahead,
the next frame comes and the masks of the last one go while a step runs. IoU is with ONNX Runtime on
the processor, in fp32.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import numpy as np
import typer

from benchmarks.report import append_json, print_table, run_script
from s2svos_engines.arrays import Masks
from s2svos_engines.closed_loop import mask_iou
from s2svos_engines.states import counts

if TYPE_CHECKING:
    from s2svos_engines.arrays import States
    from s2svos_engines.cuda.engine import CudaEngine

FRAMES = 20  # of a turn


class Way(NamedTuple):
    """Follows frames, in closed loop or ahead."""

    name: str
    follow: Callable[[Sequence[Masks]], list[Masks]]


class OneGraph:
    """A captured step that ends with a copy of the new states over the old.

    Args:
        engine: whose step is captured, if it can be.
        states: of N objects.
    """

    def __init__(self, engine: CudaEngine, states: States) -> None:
        self._engine, self._stream = engine, engine.stream()
        interface = engine.contract.interface("step")
        specs = (*interface.inputs, *interface.outputs)
        sizes = [spec.sizes(counts(engine.contract, states)) for spec in specs]
        arrays = {
            spec: self._stream.array(size, spec.dtype)
            for spec, size in zip(specs, sizes, strict=True)
        }
        self._frame, *self._before = (arrays[spec] for spec in interface.inputs)
        self._masks, *self._after = (arrays[spec] for spec in interface.outputs)
        for array, state in zip(self._before, states, strict=True):
            array.upload(self._stream, state)
        self._stream.wait()
        (self._start,) = engine.bind("step", self._stream, arrays)
        self._start()  # libraries choose their kernels; the states read stay as they are
        self._launch = engine.capture(self._stream, self._advance)

    def step(self, frame: Masks) -> Masks:
        """uint8 [H, W, 3] to uint8 [N, H, W]."""
        self._engine.upload_frames(self._stream, self._frame, [frame])
        self._launch()
        masks = self._masks.download(self._stream)
        self._stream.wait()
        return masks

    def _advance(self) -> None:
        self._start()
        for before, after in zip(self._before, self._after, strict=True):
            before.copy(self._stream, after)


def ways(engine: CudaEngine, states: States) -> list[Way]:
    """All ways to go from step to step that an engine has."""
    from s2svos_engines.cuda.engine import CudaRunner

    def closed(step: Callable[[Masks], Masks]) -> Callable[[Sequence[Masks]], list[Masks]]:
        return lambda frames: [step(frame).copy() for frame in frames]

    def ahead(runner: CudaRunner) -> Callable[[Sequence[Masks]], list[Masks]]:
        def follow(frames: Sequence[Masks]) -> list[Masks]:
            found, begun = [], [runner.submit([frames[0]])]
            for frame in frames[1:]:
                begun.append(runner.submit([frame]))
                found.append(begun.pop(0).wait()[0].copy())
            return [*found, begun[0].wait()[0].copy()]

        return follow

    if not engine.captures:
        cells = [engine.runner(states) for _ in range(2)]
        return [Way("kernel by kernel", closed(cells[0].step)), Way("ahead", ahead(cells[1]))]
    engine.captures = False
    kernels = engine.runner(states)
    engine.captures = True
    return [
        Way("kernel by kernel", closed(kernels.step)),
        Way("even and odd graph", closed(engine.runner(states).step)),
        Way("one graph with a copy", closed(OneGraph(engine, states).step)),
        Way("even and odd graph, ahead", ahead(engine.runner(states))),
    ]


def main(
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    precision: Annotated[str, typer.Option(help="Of the graphs.")] = "fp16",
    objects: Annotated[int, typer.Option(min=1, help="How many are followed.")] = 1,
    rounds: Annotated[int, typer.Option(min=3, help=f"Of {FRAMES} frames each.")] = 50,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Time the ways to go from step to step on every engine of the GPU that is here."""
    import s2svos
    from s2svos_engines.cuda.engine import CudaEngine
    from s2svos_engines.errors import UserError
    from s2svos_engines.registry import GPU_ENGINES, usable_engines

    names = [name for name in usable_engines() if name in GPU_ENGINES]
    if not names:
        raise UserError("No engine of a GPU can be used here", "s2svos doctor says what is missing")
    rows, results = [], {}
    for name in names:
        engine = s2svos.load(bundle, engine=name, precision=precision).engine
        assert isinstance(engine, CudaEngine)
        frames, masks = clip(engine, objects)
        wanted = reference(bundle, frames, masks)
        for way, times, found in measure(engine, frames, masks, rounds):
            median = statistics.median(times)
            iou = float(mask_iou(np.stack(found), np.stack(wanted)).mean())
            results[f"{name}, {way}"] = {"turns_ms": times, "median_ms": median, "iou": iou}
            rows.append([name, way, f"{median:.3f}", f"{max(times):.3f}", f"{iou:.4f}"])
    title = f"{precision}, {objects} objects, ms a frame, mean of {FRAMES} in {rounds} turns"
    print_table(title, ["engine", "way", "median", "slowest", "IoU"], rows)
    if json:
        facts = {"precision": precision, "objects": objects, "ways": results}
        append_json(json, "cuda_graphs", facts)


def measure(
    engine: CudaEngine, frames: Sequence[Masks], masks: Masks, rounds: int
) -> list[tuple[str, list[float], list[Masks]]]:
    """For each way milliseconds a frame in every turn, and the masks of its first turn."""
    variants = ways(engine, engine.init(frames[0], masks))
    found = [way.follow(frames[1:]) for way in variants]  # which captures, too
    times: list[list[float]] = [[] for _ in variants]
    for _ in range(rounds):
        for way, samples in zip(variants, times, strict=True):
            began = time.perf_counter()
            way.follow(frames[1:])
            samples.append(1000 * (time.perf_counter() - began) / (len(frames) - 1))
    return [(w.name, t, f) for w, t, f in zip(variants, times, found, strict=True)]


def clip(engine: CudaEngine, objects: int) -> tuple[list[Masks], Masks]:
    """Drawn frames at the network's size, and masks uint8 [N, H, W] of objects on the first."""
    import cv2

    from s2svos.sample.render import render

    size = engine.contract.width, engine.contract.height
    drawn = list(render(length=FRAMES + 1))
    frames = [np.asarray(cv2.resize(frame, size), np.uint8) for frame, _ in drawn]
    first = np.asarray(cv2.resize(np.uint8(255) * (drawn[0][1] == 1), size), np.uint8)
    # Shifted, so that no two objects are the same.
    return frames, np.stack([np.roll(first, 8 * index, axis=1) for index in range(objects)])


def reference(bundle: Path | None, frames: Sequence[Masks], masks: Masks) -> list[Masks]:
    """Return the masks by ONNX Runtime on the processor."""
    import s2svos

    engine = s2svos.load(bundle, engine="onnxruntime").engine
    runner = engine.runner(engine.init(frames[0], masks))
    return [runner.step(frame).copy() for frame in frames[1:]]


if __name__ == "__main__":
    run_script(main)
