"""Measurement of drift: the network in PyTorch over one clip, and engines after it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from threading import Event, Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from s2svos_engines.arrays import Frame, Labels, Masks, States
from s2svos_engines.closed_loop import NetworkClip, mask_iou, ping_pong
from s2svos_engines.contract import step_graph
from s2svos_engines.engine import Engine, Runner
from s2svos_export.drift import Drift, DriftReport, Errors, TensorErrors
from s2svos_export.graphs import Network
from s2svos_export.temporary import temporary_folder, temporary_folder_errors

FRAMES = 300
THRESHOLD = 0.95
FORCED_EVERY = 10

EngineLoader = Callable[[], Sequence[Engine]]
"""Loads an engine, in each arithmetic that it has."""


def measure_drift(
    network: Network,
    loaders: Sequence[EngineLoader],
    clip: Iterable[tuple[Frame, Labels]],
    *,
    source: str,
    frames: int = FRAMES,
    frames_per_call: Sequence[int] = (1,),
    threshold: float = THRESHOLD,
    forced_every: int = FORCED_EVERY,
    at_once: int = 1,
    progress: Callable[[int], None] = lambda frame: None,
) -> DriftReport:
    """Run a clip through PyTorch, and then through engines.

    What PyTorch makes of it, 1.6 MB a frame of two objects of ``lite``, is kept in a temporary
    folder. Only the engines that follow are in memory.

    Args:
        network: the reference, in evaluation mode, fp32, on the CPU.
        loaders: of engines with the graphs exported from it; the slowest last, as it begins with
            these.
        clip: frames, uint8 [H, W, 3] RGB, with ids, uint8 [H, W], of which the first are read.
            A clip that is too short is repeated back and forth.
        source: name of the clip in the report.
        frames: how many to follow after the first, rounded up to whole calls.
        frames_per_call: how many frames the graphs take a call; each way of calling is followed.
        threshold: IoU below which an object counts as lost.
        forced_every: calls from one that is teacher-forced to the next, each of which costs
            another step.
        at_once: how many engines follow at the same time, best one a core: two threads that share
            one step wait for each other, on a busy machine most of the time.
        progress: called with the share of the work that is done, from 0 to ``frames``.

    Raises:
        ValueError: the clip has no frame or no object, or ``frames`` is less than 1.
        UserError: the temporary folder cannot be written.
    """
    frames += -frames % math.lcm(*frames_per_call)
    if frames < 1:
        raise ValueError("drift is measured over at least 1 frame")
    start = NetworkClip.of(clip, network.contract)
    following = islice(ping_pong(chain([start.first], start.frames)), 1, frames + 1)
    work, stopped = _Work(1 + len(loaders), progress), Event()
    with temporary_folder() as folder:
        with torch.inference_mode():
            reference = _Reference(network, start, folder)
            for frame in following:
                reference.follow(frame)
                work.did(1)
        scale = reference.scale()

        def drifts(load: EngineLoader) -> list[Drift]:
            runs = [
                _EngineRun(engine, count, start, reference.start, forced_every)
                for engine in load()
                for count in frames_per_call
            ]
            for run in runs:
                for reached in reference.frames():
                    if stopped.is_set():
                        return []
                    run.follow(reached)
                    work.did(1 / len(runs))
            return [run.drift(scale) for run in runs]

        with ThreadPoolExecutor(at_once) as pool:
            try:
                found = list(pool.map(drifts, loaders[::-1]))[::-1]
            except BaseException:  # Ctrl-C, for one
                stopped.set()
                raise
    return DriftReport(
        source=source,
        frames=frames,
        objects=start.ids,
        threshold=threshold,
        seen=_rounded(reference.seen / (frames * len(start.ids))),
        scale={name: _rounded(value) for name, value in scale.items()},
        drifts=tuple(chain.from_iterable(found)),
    )


class _Work:
    """Tells how much of some parts of work of the same size is done."""

    def __init__(self, parts: int, progress: Callable[[int], None]) -> None:
        self._parts, self._progress = parts, progress
        self._lock = Lock()
        self._done, self._told = 0.0, 0

    def did(self, frames: float) -> None:
        """Count frames of a part."""
        with self._lock:
            self._done += frames / self._parts
            if self._done + 1e-6 >= self._told + 1:
                self._told = int(self._done + 1e-6)
                self._progress(self._told)


@dataclass(frozen=True)
class ReferenceFrame:
    """One frame as PyTorch follows it.

    Args:
        index: of the frame; the clip's first is 0.
        frame: uint8 [h, w, 3].
        before: the states that the step starts from.
        masks: uint8 [N, h, w].
        after: the states that the step makes.
    """

    index: int
    frame: Frame
    before: States
    masks: Masks
    after: States


class _Reference:
    """PyTorch on its way through the clip.

    Attributes:
        start: the states after the first frame, in the contract's order.
        seen: number of masks so far with a pixel of the object.
    """

    def __init__(self, network: Network, clip: NetworkClip, folder: Path) -> None:
        self._network, self._folder = network, folder
        states = network.init(torch.from_numpy(clip.first), torch.from_numpy(clip.first_masks))
        self.start: States = [state.numpy() for state in states]
        self.seen = 0
        self._states = self.start
        self._index = 0
        self._squares = np.zeros(1 + len(states))

    def follow(self, frame: Frame) -> None:
        """Take the next frame."""
        outputs = self._network.step(
            torch.from_numpy(frame), *(torch.from_numpy(state) for state in self._states)
        )
        masks, *self._states = (output.numpy() for output in outputs)
        self.seen += int((masks > 127).any((1, 2)).sum())
        self._squares += [_mean_square(tensor) for tensor in (masks, *self._states)]
        self._index += 1
        with temporary_folder_errors():
            np.savez(self._path(self._index), frame, masks, *self._states)

    def frames(self) -> Iterator[ReferenceFrame]:
        """Yield the frames that were taken."""
        before = self.start
        for index in range(1, self._index + 1):
            with np.load(self._path(index)) as arrays:
                frame, masks, *after = (arrays[name] for name in arrays.files)
            yield ReferenceFrame(index, frame, before, masks, after)
            before = after

    def scale(self) -> dict[str, float]:
        """Return the RMS of masks and states over the clip by name; 1 for one that is all zero."""
        contract = self._network.contract
        names = [contract.object_masks.name, *(state.name for state in contract.states)]
        rms = np.sqrt(self._squares / self._index)
        return {name: float(one) or 1.0 for name, one in zip(names, rms, strict=True)}

    def _path(self, index: int) -> Path:
        return self._folder / f"{index}.npz"


class _EngineRun:
    """An engine on its way through the clip, free-running and now and then teacher-forced.

    Args:
        engine: with its graphs.
        count: frames that it takes a call.
        clip: gives the start.
        reference: states that PyTorch's ``init`` made.
        forced_every: calls from one that is teacher-forced to the next.
    """

    def __init__(
        self, engine: Engine, count: int, clip: NetworkClip, reference: States, forced_every: int
    ) -> None:
        self._engine, self._count, self._forced_every = engine, count, forced_every
        start = engine.init(clip.first, clip.first_masks)
        self._init = [_error(a, b) for a, b in zip(reference, start, strict=True)]
        self._free_runner = engine.runner(start)
        self._forced_runner = engine.runner(reference)
        self._free_running, self._teacher_forced = _ErrorLog(), _ErrorLog()
        self._call: list[ReferenceFrame] = []

    def follow(self, reached: ReferenceFrame) -> None:
        """Take a frame; run and compare once there are enough for a call."""
        self._call.append(reached)
        if len(self._call) < self._count:
            return
        if len(self._free_running.frames) % self._forced_every == 0:
            self._forced_runner.load(self._call[0].before)
            self._teacher_forced.compare(self._call, self._forced_runner)
        self._free_running.compare(self._call, self._free_runner)
        self._call = []

    def drift(self, scale: Mapping[str, float]) -> Drift:
        """Return what was found, errors in units of ``scale``."""
        states = dict(list(scale.items())[1:])
        return Drift(
            engine=self._engine.title,
            precision=self._engine.precision,
            graph=step_graph(self._count),
            iou=_rows(np.concatenate(self._free_running.iou)),
            init=_tensor_errors([self._init], states),
            free_running=self._free_running.errors(scale),
            teacher_forced=self._teacher_forced.errors(scale),
        )


class _ErrorLog:
    """Errors of one runner, call by call.

    Attributes:
        frames: index of the last frame of each call.
        iou: [frames of the call, N] each.
    """

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.iou: list[NDArray[np.float64]] = []
        self._errors: list[list[tuple[float, float]]] = []

    def compare(self, call: Sequence[ReferenceFrame], runner: Runner[Any]) -> None:
        """Let a runner follow the frames of one call."""
        if len(call) == 1:
            masks = runner.step(call[0].frame)[None]
        else:
            masks = runner.steps([reached.frame for reached in call])
        last = call[-1]
        self.frames.append(last.index)
        self.iou.append(mask_iou(np.stack([reached.masks for reached in call]), masks))
        pairs = zip((last.masks, *last.after), (masks[-1], *runner.states()), strict=True)
        self._errors.append([_error(a, b) for a, b in pairs])

    def errors(self, scale: Mapping[str, float]) -> Errors:
        """Return the errors in units of ``scale``."""
        iou = np.stack([one.mean(0) for one in self.iou])
        return Errors(tuple(self.frames), _rows(iou), _tensor_errors(self._errors, scale))


def _tensor_errors(
    calls: Sequence[Sequence[tuple[float, float]]], scale: Mapping[str, float]
) -> dict[str, TensorErrors]:
    """Return errors by tensor, in units of its scale, from largest and RMS of [calls][tensors]."""
    return {
        name: TensorErrors(
            tuple(_rounded(call[index][0] / unit) for call in calls),
            tuple(_rounded(call[index][1] / unit) for call in calls),
        )
        for index, (name, unit) in enumerate(scale.items())
    }


def _error(reference: NDArray[np.generic], other: NDArray[np.generic]) -> tuple[float, float]:
    """Return the largest and the root mean square error."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = other.astype(np.float32) - reference.astype(np.float32)
        return float(np.abs(difference).max()), math.sqrt(_mean_square(difference))


def _mean_square(tensor: NDArray[np.generic]) -> float:
    return float(np.square(tensor, dtype=np.float64).mean())


def _rows(table: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(_rounded(value) for value in row) for row in table)


def _rounded(value: float) -> float:
    """Return six digits, which keep the report small; infinity if it is not a number."""
    return float(f"{value:.6g}") if math.isfinite(value) else math.inf
