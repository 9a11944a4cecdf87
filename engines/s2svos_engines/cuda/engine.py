"""A cell on an NVIDIA GPU, whatever engine runs its graphs.

What all engines on an NVIDIA GPU have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import GpuPicture, Picture
from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import Masks, ResidentCell
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.cuda.device import DeviceArray, Gpu, GpuStream
from s2svos_engines.cuda.letterbox import Shrinker
from s2svos_engines.engine import States

if TYPE_CHECKING:
    from cuda.core import Event


class GpuCell(ResidentCell):
    """Two sets of states on the GPU: what an even call reads from one an odd call writes to it.

    A call is an upload, the graph and a download, each on a stream of its own: while one call's
    graph runs, the frames of the next come and the masks of the one before go. Even and odd calls
    have their own arrays of frames and masks, so that two may be under way.

    Args:
        engine: that runs the graphs.
        states: of N objects, copied.
        owners: int64 [N], the stream of each object, for a cell of many streams.

    Raises:
        UserError: the GPU's memory is full.
    """

    def __init__(self, engine: GpuEngine, states: States, owners: NDArray[np.int64] | None) -> None:
        super().__init__(engine.contract, states, owners)
        engine.gpu.use()
        self._engine = engine
        self._compute, self._up, self._down = (
            engine.stream(), engine.gpu.stream(), engine.gpu.stream()
        )  # fmt: skip
        self._sets = [[self._array(spec, self._compute) for spec in self._states] for _ in range(2)]
        self._fixed: list[DeviceArray] = []
        if owners is not None:
            self._fixed = [self._compute.array(owners.shape, "int64")]
            self._fixed[0].upload(self._compute, owners)
        # Its memory is taken now, not on the first frame.
        self._calls = {self._graph: self._bound(self._graph)}
        self._now = 0
        self.load(states)

    def states(self) -> States:
        """The current state; valid until the next step."""
        self._engine.gpu.use()
        states = [array.download(self._compute) for array in self._sets[self._now]]
        self._compute.wait()
        return states

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``."""
        self._engine.gpu.use()
        for array, value in zip(self._sets[self._now], states, strict=True):
            array.upload(self._compute, value)
        self._compute.wait()

    def _begin(self, graph: str, frames: Sequence[Picture]) -> Callable[[], Masks]:
        self._engine.gpu.use()
        if graph not in self._calls:
            self._calls[graph] = self._bound(graph)
        call = self._calls[graph][self._now]
        call.wait()  # for the call before the last, which had these arrays
        self._engine.place(self._up, call.pictures, frames)
        self._compute.after(self._up.event())
        call.start()
        self._down.after(self._compute.event())
        masks = call.masks.download(self._down)
        call.done = self._down.event()
        self._now = 1 - self._now

        def found() -> Masks:
            call.wait()
            return masks

        return found

    def _bound(self, graph: str) -> tuple[_Call, _Call]:
        interface = self._engine.contract.interface(graph)
        specs = (*interface.inputs, *interface.outputs)
        pictures = [self._array(interface.inputs[0], self._compute) for _ in range(2)]
        # Freed by the stream that reads them last.
        masks = [self._array(interface.outputs[0], self._down) for _ in range(2)]
        sets = [
            dict(zip(specs, (pictures[n], *self._fixed, *before, masks[n], *after), strict=True))
            for n, (before, after) in enumerate((self._sets, self._sets[::-1]))
        ]
        starts = self._engine.bind(graph, self._compute, *sets)
        for stream in (self._compute, self._down):
            stream.wait()  # until the arrays are there for the other streams
        capture = partial(self._engine.capture, self._compute) if self._engine.captures else None
        even, odd = (_Call(*one, capture) for one in zip(starts, pictures, masks, strict=True))
        return even, odd

    def _array(self, spec: TensorSpec, stream: GpuStream) -> DeviceArray:
        return stream.array(self._sizes(spec), spec.dtype)


class _Call:
    """A graph on one of the two sets of arrays.

    The first time it is started as it is, so that libraries choose their kernels and take their
    memory; the second time it is captured. Nothing has to be put back: it reads one set of states
    and writes the other, however often it is run.
    """

    def __init__(
        self,
        work: Callable[[], None],
        pictures: DeviceArray,
        masks: DeviceArray,
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None,
    ) -> None:
        self.pictures, self.masks = pictures, masks
        self.done: Event | None = None
        self._work, self._capture = work, capture
        self._warm = False
        self._captured: Callable[[], None] | None = None

    def start(self) -> None:
        """Gives the graph to the stream."""
        if self._captured is None and self._capture is not None and self._warm:
            self._captured = self._capture(self._work)
        (self._captured or self._work)()
        self._warm = True

    def wait(self) -> None:
        """Returns when the masks of its latest start are there."""
        if self.done is not None:
            self.done.sync()


Arrays = Mapping[TensorSpec, DeviceArray]
"""For every input and output of a graph, the array that it is."""


class GpuEngine(ABC):
    """Runs graphs on arrays that stay on the GPU; how, the engine says with :meth:`bind`.

    Args:
        bundle: with the graphs.
        precision: of the graphs.

    Raises:
        UserError: there is no GPU, or cuda-core is missing.
    """

    name: str
    on_gpu = True
    ahead = 2
    captures = True
    """Whether what it starts can be captured as a CUDA graph."""

    def __init__(self, bundle: Bundle, *, precision: str) -> None:
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        self.batches = BATCH in bundle.graph_names(precision)
        self.gpu = Gpu()
        self._shrinker = Shrinker(self.gpu)

    @abstractmethod
    def bind(self, graph: str, stream: GpuStream, *sets: Arrays) -> list[Callable[[], None]]:
        """Prepares a graph.

        Args:
            graph: its name.
            stream: on which it will run, one call after the other.
            sets: of arrays on which it will run.

        Returns:
            For each set what starts the graph on it.

        Raises:
            UserError: the graph cannot be run, or the GPU's memory is full.
        """

    def capture(self, stream: GpuStream, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of what ``work`` gives to a stream.

        Returns:
            What launches it, as often as one likes.
        """
        return partial(stream.launch, stream.capture(work))

    def stream(self) -> GpuStream:
        """The stream on which a new cell computes."""
        return self.gpu.stream()

    def init(self, frame: Picture, first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        self.gpu.use()
        stream, interface = self.stream(), self.contract.interface("init")
        specs = (*interface.inputs, *interface.outputs)
        sizes = [spec.sizes(objects=len(first_masks)) for spec in specs]
        arrays = {
            spec: stream.array(size, spec.dtype) for spec, size in zip(specs, sizes, strict=True)
        }
        pictures, masks = (arrays[spec] for spec in interface.inputs)
        self.place(stream, pictures, [frame])
        masks.upload(stream, first_masks)
        (start,) = self.bind("init", stream, arrays)
        start()
        states = [arrays[spec].download(stream) for spec in interface.outputs]
        stream.wait()
        return states

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> GpuCell:
        """A cell that starts from a copy of ``states``."""
        return GpuCell(self, states, owners)

    def place(self, stream: GpuStream, pictures: DeviceArray, frames: Sequence[Picture]) -> None:
        """Starts to bring frames to a graph's input, uint8 [H, W, 3] or [T, H, W, 3]."""
        *_, height, width, channels = pictures.shape
        if len(frames) * height * width * channels != math.prod(pictures.shape):
            raise ValueError(f"{len(frames)} frames for an input of {pictures.shape}")
        from_host = [one for one in enumerate(frames) if not isinstance(one[1], GpuPicture)]
        if from_host:
            places = pictures.host.reshape(-1, height, width, channels)
            for place, frame in from_host:
                places[place][...] = frame
            pictures.send(stream)  # all of it, before those on the GPU come into their places
        for place, frame in enumerate(frames):
            if isinstance(frame, GpuPicture):
                address = pictures.address + place * height * width * channels
                self._shrinker.shrink(stream, frame, address)
