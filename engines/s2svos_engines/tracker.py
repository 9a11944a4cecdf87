"""Tracker and stream: the weights that are shared, and the state that is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Frame, kind, on_gpu, shrunk
from s2svos_engines.batching import Batch, Seat
from s2svos_engines.bundle import Bundle
from s2svos_engines.engine import GPU_ENGINES, Cell, Engine, States, load_engine
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import Fit, merge

Labels = NDArray[np.uint8]


class Tracker:
    """A network on an engine. Immutable; any number of streams may be open on it.

    Args:
        bundle: where the network came from.
        engine: its graphs, compiled.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        engine: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> Tracker:
        """Opens a bundle on an engine.

        Args:
            path: of the bundle.
            engine: ``openvino``, ``onnxruntime``, or ``auto`` for the fastest that is installed.
            precision: of the graphs: ``fp32``, or ``fp16`` or ``int8`` where the bundle has them.
            threads: processor threads of a step; None for one a core.

        Raises:
            UserError: the bundle or the engine cannot be used.
        """
        bundle = Bundle.open(path)
        return cls(bundle, load_engine(bundle, engine, precision=precision, threads=threads))

    @property
    def engine_name(self) -> str:
        """Which engine runs the network."""
        return self.engine.name

    def open(self, frame: Frame, mask: Labels) -> Stream:
        """Starts to follow objects.

        Args:
            frame: uint8 [H, W, 3], RGB, the first frame; any size. It and those that follow may
                be on the GPU, as PyTorch's, CuPy's and PyCUDA's arrays are, where the engine is.
            mask: uint8 [H, W], ids of the objects in it, 0 for the background.

        Raises:
            UserError: wrong types or shapes, or the mask holds no object.
        """
        return Stream(self, frame, mask)

    def step_many(self, frames: Mapping[Stream, Frame]) -> dict[Stream, Labels]:
        """Follows the objects of several streams into their next frames.

        In one call of the network where the bundle has a ``batch`` graph, else in turn. Streams
        may join and leave from call to call; a batch of other streams than the last one copies
        their state, and OpenVINO compiles a graph for each new count of streams and objects. Not to
        be called by two threads at once; a ``Gatherer`` takes the frames of many threads.

        Args:
            frames: for each stream of this tracker that has one, its next frame, as for
                :meth:`Stream.step`.

        Returns:
            The labels of each, as :meth:`Stream.step` returns them.

        Raises:
            UserError: a frame has another type or size than its stream; none is stepped then.
        """
        for stream, frame in frames.items():
            stream.check(frame)
        members = [stream for stream in frames if len(stream.ids)]
        if not self.engine.batches or len(members) < 2:
            return {stream: stream.step(frame) for stream, frame in frames.items()}
        batch = self._together(members)
        pictures = [shrunk(frames[stream], stream._fit) for stream in members]
        found = dict(zip(members, batch.step(pictures), strict=True))
        for stream in frames:
            masks = found.get(stream, np.zeros((0, 0, 0), np.uint8))
            stream.labels = merge(masks, stream.ids, stream._fit)
        return {stream: stream.labels for stream in frames}

    def _together(self, members: Sequence[Stream]) -> Batch:
        """The batch of these streams: that in which they are, or a new one."""
        first = members[0]._home
        if isinstance(first, Seat) and first.batch.seats == [one._home for one in members]:
            return first.batch
        batch = Batch(self.engine, self.bundle.contract, [one._states() for one in members])
        for stream, seat in zip(members, batch.seats, strict=True):
            stream._home = seat
        return batch


class Stream:
    """One video and the objects followed in it. Not to be stepped by two threads at once.

    Attributes:
        labels: uint8 [H, W], the ids on the latest frame.
        ids: uint8 [N], the objects that are followed.
    """

    labels: Labels
    ids: NDArray[np.uint8]

    def __init__(self, tracker: Tracker, frame: Frame, mask: Labels) -> None:
        dtype, shape = kind(frame)
        if dtype != "uint8" or len(shape) != 3 or shape[2] != 3:
            raise UserError(f"A frame is uint8 [H, W, 3], not {dtype} {list(shape)}.")
        self._engine, self._contract = tracker.engine, tracker.bundle.contract
        native, size = (shape[0], shape[1]), (self._contract.height, self._contract.width)
        self._fit = Fit.of(native, size)
        self._home: Cell | Seat | None = None  # where the state is
        self.ids = np.zeros(0, np.uint8)
        self.labels = np.zeros(native, np.uint8)
        self.add(frame, mask)

    def step(self, frame: Frame) -> Labels:
        """Follows the objects into the next frame.

        Args:
            frame: uint8 [H, W, 3], RGB, of the first frame's size.

        Returns:
            uint8 [H, W], ids of the objects, 0 for the background.

        Raises:
            UserError: the frame has another type or size.
        """
        return self.steps([frame])[0]

    def steps(self, frames: Sequence[Frame]) -> list[Labels]:
        """Follows the objects into the next frames, as :meth:`follow` does.

        Args:
            frames: any number of uint8 [H, W, 3], RGB, of the first frame's size.

        Returns:
            For each frame what ``step`` returns, but for rounding.

        Raises:
            UserError: a frame has another type or size; then none is followed.
        """
        for frame in frames:
            self.check(frame)
        return list(self.follow(frames))

    def follow(self, frames: Iterable[Frame], *, ahead: int | None = None) -> Iterator[Labels]:
        """Follows the objects through frames that need not be answered one by one.

        Faster than to step: a call takes as many frames as the engine can at once, and several
        calls are under way, so frames are taken before the labels of those before them are given.
        To be iterated to its end before anything else is done with the stream.

        Args:
            frames: uint8 [H, W, 3], RGB, of the first frame's size, such as those of a video.
            ahead: how many calls are under way at most; None for what the engine can.

        Yields:
            For each frame what ``step`` returns, but for rounding; also for those that came before
            an error.

        Raises:
            UserError: a frame has another type or size.
            Exception: what ``frames`` raised.
        """
        error: BaseException | None = None

        def until_error() -> Iterator[Frame]:
            nonlocal error
            try:
                for frame in frames:
                    self.check(frame)
                    yield frame
            except BaseException as raised:  # Ctrl-C too
                error = raised

        calls = self._calls(until_error())
        begun: deque[Callable[[], NDArray[np.uint8]]] = deque()
        most = min(ahead or self._engine.ahead, self._engine.ahead)
        while True:
            if len(begun) == most:  # before another frame is waited for
                yield from self._finish(begun.popleft())
            if (call := next(calls, None)) is None:
                break
            begun.append(self._begin(call))
        while begun:
            yield from self._finish(begun.popleft())
        if error:
            raise error

    def _calls(self, frames: Iterator[Frame]) -> Iterator[list[Frame]]:
        """Frames in as large portions as a call may take."""
        counts = self._engine.frames_per_call
        while rest := list(islice(frames, max(counts))):
            while rest:
                count = max(count for count in counts if count <= len(rest))
                yield rest[:count]
                del rest[:count]

    def _finish(self, begun: Callable[[], NDArray[np.uint8]]) -> list[Labels]:
        """The labels of a call; merged at once, since a further call takes the masks' place."""
        labels = [merge(masks, self.ids, self._fit) for masks in begun()]
        self.labels = labels[-1]
        return labels

    def _begin(self, frames: Sequence[Frame]) -> Callable[[], NDArray[np.uint8]]:
        """A call for so many frames; gives object masks, uint8 [T, N, h, w]."""
        if isinstance(self._home, Seat):  # out of the batch, into a cell of its own
            self._home = self._engine.cell(self._home.states())
        if self._home is None:
            return lambda: np.zeros((len(frames), 0, 0, 0), np.uint8)
        return self._home.begin([shrunk(frame, self._fit) for frame in frames])

    def check(self, frame: Frame) -> None:
        """Whether a frame can be stepped.

        Raises:
            UserError: it has another type or size than the first, or is on a GPU where the engine
                is not.
        """
        if on_gpu(frame) and not self._engine.on_gpu:
            raise UserError(
                f"The frame is on a GPU, but the engine {self._engine.name} is not",
                (
                    "copy it to a "
                    f"NumPy array first, or load the tracker on one of {', '.join(GPU_ENGINES)}"
                ),
            )
        self._check(*kind(frame), (*self._fit.native, 3))

    def add(self, frame: Frame, mask: Labels) -> Labels:
        """Follows further objects, which enter on the latest frame.

        Args:
            frame: uint8 [H, W, 3], RGB, the frame that was stepped last.
            mask: uint8 [H, W], ids of the new objects, 0 elsewhere.

        Returns:
            uint8 [H, W], the latest labels with the new objects over them.

        Raises:
            UserError: wrong types or shapes, no object, or an id that is followed already.
        """
        self.check(frame)
        self._check(str(mask.dtype), mask.shape, self._fit.native)
        new = np.unique(mask[mask > 0])
        if not len(new):
            raise UserError("The mask holds no object", "mark each object with its id, 1 to 255")
        if len(known := np.intersect1d(new, self.ids)):
            raise UserError(f"Object {known[0]} is followed already", "give a new object a new id")
        objects = [self._fit.shrink((mask == one).astype(np.uint8) * np.uint8(255)) for one in new]
        states = self._engine.init(shrunk(frame, self._fit), np.stack(objects))
        if self._home:
            triples = zip(self._contract.states, self._states(), states, strict=True)
            states = [n if spec.shared else np.concatenate([o, n]) for spec, o, n in triples]
        self._keep(np.concatenate([self.ids, new]), states)
        self.labels = np.where(mask > 0, mask, self.labels)
        return self.labels

    def remove(self, *ids: int) -> None:
        """Stops following objects.

        Raises:
            UserError: an id is not followed.
        """
        if unknown := set(ids) - set(self.ids.tolist()):
            raise UserError(f"Object {min(unknown)} is not followed", f"the ids are {self.ids}")
        keep = ~np.isin(self.ids, ids)
        pairs = zip(self._contract.states, self._states(), strict=False)
        states = [state if spec.shared else state[keep] for spec, state in pairs]
        self._keep(self.ids[keep], states)

    def _keep(self, ids: NDArray[np.uint8], states: States) -> None:
        self.ids = ids
        self._home = self._engine.cell(states) if len(ids) else None

    def _states(self) -> States:
        return self._home.states() if self._home else []

    @staticmethod
    def _check(dtype: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if dtype != "uint8" or shape != wanted:
            raise UserError(
                f"Expected uint8 {list(wanted)}, got {dtype} {list(shape)}",
                "every frame and mask of a stream has the size of its first frame",
            )
