"""Measures drift: engines beside the network in PyTorch, over one clip."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain, islice
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2svos_engines.arrays import States
from s2svos_engines.contract import StepContract, step_graph
from s2svos_engines.engine import Engine, Runner
from s2svos_engines.letterbox import Letterbox
from s2svos_export.drift import Drift, DriftReport, Errors, TensorErrors

FRAMES = 300
THRESHOLD = 0.95
FORCED_EVERY = 10

Item = TypeVar("Item")
Picture = NDArray[np.uint8]
Masks = NDArray[np.uint8]


class Network(Protocol):
    """What engines can be compared with; see :class:`s2svos_export.graphs.StepNetwork`."""

    @property
    def contract(self) -> StepContract:
        """Names, shapes and dtypes of the graphs."""
        ...

    def init(self, frame: Tensor, first_masks: Tensor) -> tuple[Tensor, ...]:
        """Frame and first masks to the states."""
        ...

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Frame and states to the object masks and the states."""
        ...


def measure_drift(
    network: Network,
    engines: Sequence[Engine],
    clip: Iterable[tuple[Picture, NDArray[np.uint8]]],
    *,
    source: str,
    frames: int = FRAMES,
    threshold: float = THRESHOLD,
    forced_every: int = FORCED_EVERY,
    progress: Callable[[int], None] = lambda frame: None,
) -> DriftReport:
    """Runs a clip through PyTorch once, and beside it through engines.

    They go on frame by frame together, so that only their present states are in memory; kept are
    the clip's frames at the network's size, 344 kB each at 256x448. Each engine has a thread of
    its own: two threads that share one step wait for each other, on a busy machine most of the
    time.

    Args:
        network: the reference, in evaluation mode, fp32, on the CPU.
        engines: with the graphs exported from it, best loaded with ``threads=1``. One that takes
            several frames a call is followed in each way of calling.
        clip: frames, uint8 [H, W, 3] RGB, with ids, uint8 [H, W]; the first frame's are followed.
            A clip that is too short is repeated back and forth.
        source: names the clip in the report.
        frames: to follow after the first, rounded up to whole calls.
        threshold: IoU below which an object counts as lost.
        forced_every: calls from one that is teacher-forced to the next, each of which costs
            another step.
        progress: is told the index of every frame that is done.

    Raises:
        ValueError: the clip has no frame or no object, or ``frames`` is less than 1.
    """
    contract = network.contract
    frames += -frames % math.lcm(*(count for one in engines for count in one.frames_per_call))
    if frames < 1:
        raise ValueError("drift is measured over at least 1 frame")
    pairs = iter(clip)
    frame, ids = next(pairs, (None, None))
    if frame is None or ids is None or not ids.any():
        raise ValueError("the clip has no frame, or no object on its first frame")
    fit = Letterbox.of(frame.shape[:2], (contract.height, contract.width))
    objects = tuple(int(i) for i in np.unique(ids[ids > 0]))
    masks = np.stack([fit.resize((ids == i).astype(np.uint8) * np.uint8(255)) for i in objects])
    pictures = back_and_forth(fit.resize(one) for one in chain([frame], (f for f, _ in pairs)))

    first, cores = next(pictures), len(os.sched_getaffinity(0))
    with torch.inference_mode(), _torch_threads(max(1, cores - len(engines))):
        reference = _Reference(network, first, masks)
        courses = [
            _Course(engine, count, engine.init(first, masks), reference.states, forced_every)
            for engine in engines
            for count in engine.frames_per_call
        ]
        with ThreadPoolExecutor(cores) as pool:
            running: list[Future[None]] = []
            for picture in islice(pictures, frames):
                moment = reference.follow(picture)  # the engines are one frame behind
                _finish(running)
                running = [pool.submit(course.follow, moment) for course in courses]
                progress(moment.frame)
            _finish(running)
    return DriftReport(
        source=source,
        frames=frames,
        objects=objects,
        threshold=threshold,
        seen=_figure(reference.seen / (frames * len(objects))),
        scale={name: _figure(value) for name, value in reference.scale().items()},
        drifts=tuple(course.drift(reference.scale()) for course in courses),
    )


def back_and_forth(items: Iterable[Item]) -> Iterator[Item]:
    """The items to the last, back to the first and so on, without a jump; keeps them.

    Endless, but gives nothing if there is none.
    """
    kept = []
    for item in items:
        kept.append(item)
        yield item
    while kept:
        yield from kept[-2::-1] or kept
        yield from kept[1:]


@contextmanager
def _torch_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _finish(running: Sequence[Future[None]]) -> None:
    for one in running:
        one.result()


class _Moment(NamedTuple):
    """What PyTorch makes of a frame."""

    frame: int
    picture: Picture
    before: States
    masks: Masks  # [N, H, W]
    after: States


class _Reference:
    """PyTorch on its way through the clip.

    Attributes:
        states: the present ones, in the contract's order.
        seen: number of masks so far with a pixel of the object.
    """

    def __init__(self, network: Network, first: Picture, masks: Masks) -> None:
        self._network = network
        states = network.init(torch.from_numpy(first), torch.from_numpy(masks))
        self.states: States = [state.numpy() for state in states]
        self.seen = 0
        self._frame = 0
        self._squares = np.zeros(1 + len(states))

    def follow(self, picture: Picture) -> _Moment:
        """Takes a frame."""
        before = self.states
        outputs = self._network.step(
            torch.from_numpy(picture), *(torch.from_numpy(state) for state in before)
        )
        masks, *self.states = (output.numpy() for output in outputs)
        self.seen += int((masks > 127).any((1, 2)).sum())
        self._squares += [_mean_square(tensor) for tensor in (masks, *self.states)]
        self._frame += 1
        return _Moment(self._frame, picture, before, masks, self.states)

    def scale(self) -> dict[str, float]:
        """RMS of masks and states over the clip by name; 1 for one that is zero throughout."""
        contract = self._network.contract
        names = [contract.object_masks.name, *(state.name for state in contract.states)]
        rms = np.sqrt(self._squares / self._frame)
        return {name: float(one) or 1.0 for name, one in zip(names, rms, strict=True)}


class _Course:
    """An engine on its way through the clip, free-running and now and then teacher-forced.

    Args:
        engine: with its graphs.
        count: frames that it takes a call.
        start: states that its ``init`` made.
        reference: states that PyTorch's ``init`` made.
        forced_every: calls from one that is teacher-forced to the next.
    """

    def __init__(
        self, engine: Engine, count: int, start: States, reference: States, forced_every: int
    ) -> None:
        self._engine, self._count, self._forced_every = engine, count, forced_every
        self._init = [_error(a, b) for a, b in zip(reference, start, strict=True)]
        self._runner, self._forced_runner = engine.runner(start), engine.runner(reference)
        self._free, self._forced = _Record(), _Record()
        self._moments: list[_Moment] = []

    def follow(self, moment: _Moment) -> None:
        """Takes a frame; runs and compares once there are enough for a call."""
        self._moments.append(moment)
        if len(self._moments) < self._count:
            return
        if len(self._free.frames) % self._forced_every == 0:
            self._forced_runner.load(self._moments[0].before)
            self._forced.compare(self._moments, self._forced_runner)
        self._free.compare(self._moments, self._runner)
        self._moments = []

    def drift(self, scale: Mapping[str, float]) -> Drift:
        """What was found, errors in units of ``scale``."""
        states = dict(list(scale.items())[1:])
        return Drift(
            engine=self._engine.name,
            precision=self._engine.precision,
            graph=step_graph(self._count),
            iou=_rows(np.concatenate(self._free.iou)),
            init=_tensors([self._init], states),
            free=self._free.errors(scale),
            forced=self._forced.errors(scale),
        )


class _Record:
    """Errors of one cell as they come."""

    def __init__(self) -> None:
        self.frames: list[int] = []
        self.iou: list[NDArray[np.float64]] = []  # [count, N] each
        self._errors: list[list[tuple[float, float]]] = []

    def compare(self, moments: Sequence[_Moment], runner: Runner[Any]) -> None:
        """Lets a cell follow the frames of one call."""
        if len(moments) == 1:
            masks = runner.step(moments[0].picture)[None]
        else:
            masks = runner.steps([moment.picture for moment in moments])
        last = moments[-1]
        self.frames.append(last.frame)
        self.iou.append(iou(np.stack([moment.masks for moment in moments]), masks))
        pairs = zip((last.masks, *last.after), (masks[-1], *runner.states()), strict=True)
        self._errors.append([_error(a, b) for a, b in pairs])

    def errors(self, scale: Mapping[str, float]) -> Errors:
        """In units of ``scale``."""
        iou = np.stack([one.mean(0) for one in self.iou])
        return Errors(tuple(self.frames), _rows(iou), _tensors(self._errors, scale))


def _tensors(
    calls: Sequence[Sequence[tuple[float, float]]], scale: Mapping[str, float]
) -> dict[str, TensorErrors]:
    """[calls][tensors] largest and RMS error, by tensor and in units of its scale."""
    return {
        name: TensorErrors(
            tuple(_figure(call[index][0] / unit) for call in calls),
            tuple(_figure(call[index][1] / unit) for call in calls),
        )
        for index, (name, unit) in enumerate(scale.items())
    }


def _error(reference: NDArray[np.generic], other: NDArray[np.generic]) -> tuple[float, float]:
    """Largest and root mean square error."""
    with np.errstate(invalid="ignore", over="ignore"):
        difference = other.astype(np.float32) - reference.astype(np.float32)
        return float(np.abs(difference).max()), math.sqrt(_mean_square(difference))


def _mean_square(tensor: NDArray[np.generic]) -> float:
    return float(np.square(tensor, dtype=np.float64).mean())


def iou(a: Masks, b: Masks) -> NDArray[np.float64]:
    """IoU of thresholded masks, over the last two axes; two empty masks agree."""
    p, q = a > 127, b > 127
    union = (p | q).sum((-2, -1))
    ratio = (p & q).sum((-2, -1)) / np.maximum(union, 1)
    return np.where(union > 0, ratio, 1.0)


def _rows(table: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(_figure(value) for value in row) for row in table)


def _figure(value: float) -> float:
    """Six digits, which keep the report small; infinite if it is not a number."""
    return float(f"{value:.6g}") if math.isfinite(value) else math.inf
