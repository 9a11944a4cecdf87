"""The base of engines on an NVIDIA GPU: resident arrays, overlapped copies, CUDA graphs."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import Counts, TensorSpec
from s2svos_engines.cuda.device import CudaStream, DeviceArray, Gpu
from s2svos_engines.cuda.letterbox import CudaLetterbox
from s2svos_engines.engine import Engine, Runner
from s2svos_engines.letterbox import CudaFrame, NetworkFrame

if TYPE_CHECKING:
    from cuda.core import Event

Arrays = Mapping[TensorSpec, DeviceArray]
"""The array of every input and output of a graph."""


class CudaEngine(Engine):
    """Runs graphs on arrays that stay on the GPU; :meth:`bind` says how.

    Args:
        bundle: with the graphs.
        precision: of the graphs.

    Raises:
        UserError: there is no GPU, or cuda-core is missing.
    """

    on_gpu = True
    captures = True
    """Whether the work that it starts can be captured as a CUDA graph."""

    def __init__(self, bundle: Bundle, *, precision: str) -> None:
        super().__init__(bundle, precision=precision)
        self.max_in_flight = 2
        self.gpu = Gpu()
        self._letterbox = CudaLetterbox(self.gpu)

    @abstractmethod
    def bind(self, graph: str, stream: CudaStream, *sets: Arrays) -> list[Callable[[], None]]:
        """Prepare a graph.

        Args:
            graph: its name.
            stream: on which it will run, one call after the other.
            sets: of arrays on which it will run.

        Returns:
            For each set a function that starts the graph on it.

        Raises:
            UserError: the graph cannot be run, or the GPU's memory is full.
        """

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> Callable[[], None]:
        """Capture the work that a function gives to a stream as a CUDA graph.

        Returns:
            A function that launches it, as often as one likes.
        """
        return partial(stream.launch, stream.capture(work))

    def stream(self) -> CudaStream:
        """Return the stream on which a new runner computes."""
        return self.gpu.stream()

    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of objects that enter on ``frame``."""
        self.gpu.use()
        stream, interface = self.stream(), self.contract.interface("init")
        specs = (*interface.inputs, *interface.outputs)
        sizes = [spec.sizes(Counts(len(first_masks))) for spec in specs]
        arrays = {
            spec: stream.array(size, spec.dtype) for spec, size in zip(specs, sizes, strict=True)
        }
        frames, masks = (arrays[spec] for spec in interface.inputs)
        self.upload_frames(stream, frames, [frame])
        masks.upload(stream, first_masks)
        (start,) = self.bind("init", stream, arrays)
        start()
        states = [arrays[spec].download(stream) for spec in interface.outputs]
        stream.wait()
        return states

    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> CudaRunner:
        """Return a runner that starts from a copy of ``states``.

        Raises:
            UserError: the GPU's memory is full.
        """
        return CudaRunner(self, states, owners)

    def upload_frames(
        self, stream: CudaStream, target: DeviceArray, frames: Sequence[NetworkFrame]
    ) -> None:
        """Start to bring frames to a graph's input, uint8 [H, W, 3] or [T, H, W, 3]."""
        *_, height, width, channels = target.shape
        if len(frames) * height * width * channels != math.prod(target.shape):
            raise ValueError(f"{len(frames)} frames for an input of {target.shape}")
        from_host = [one for one in enumerate(frames) if not isinstance(one[1], CudaFrame)]
        if from_host:
            places = target.host.reshape(-1, height, width, channels)
            for place, frame in from_host:
                places[place][...] = frame
            target.send(stream)  # all of it, before those on the GPU come into their places
        for place, frame in enumerate(frames):
            if isinstance(frame, CudaFrame):
                address = target.address + place * height * width * channels
                self._letterbox.resize(stream, frame, address)


class CudaRunner(Runner[DeviceArray]):
    """A runner whose even calls read one set of states on the GPU, to which odd calls write.

    A call is an upload, the graph and a download, each on a stream of its own: while one call's
    graph runs, the frames of the next are uploaded and the masks of the one before downloaded. Even
    and odd calls have their own arrays of frames and masks, so that two may be in flight.

    Args:
        engine: that runs the graphs.
        states: of N objects, copied.
        owners: int64 [N], the stream of each object, for a runner of many streams.

    Raises:
        UserError: the GPU's memory is full.
    """

    def __init__(
        self, engine: CudaEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        engine.gpu.use()
        self._engine = engine
        self._compute = engine.stream()
        self._upload, self._download = engine.gpu.stream(), engine.gpu.stream()
        super().__init__(engine, states, owners)
        self._fixed: list[DeviceArray] = []
        if owners is not None:
            self._fixed = [self._compute.array(owners.shape, "int64")]
            self._fixed[0].upload(self._compute, owners)
        # Its memory is taken now, not on the first frame.
        self._calls = {self._graph: self._bound(self._graph)}

    def states(self) -> States:
        """Return the current states; valid until the next step."""
        self._engine.gpu.use()
        states = super().states()
        self._compute.wait()
        return states

    def load(self, states: States) -> None:
        """Go on from a copy of ``states``."""
        self._engine.gpu.use()
        super().load(states)
        self._compute.wait()

    def _submit(self, graph: str, frames: Sequence[NetworkFrame]) -> Callable[[], Masks]:
        self._engine.gpu.use()
        if graph not in self._calls:
            self._calls[graph] = self._bound(graph)
        call = self._calls[graph][self._current]
        call.wait()  # for the call before the last, which had these arrays
        self._engine.upload_frames(self._upload, call.frames, frames)
        self._compute.after(self._upload.event())
        call.start()
        self._download.after(self._compute.event())
        masks = call.masks.download(self._download)
        call.done = self._download.event()
        self._swap()

        def wait() -> Masks:
            call.wait()
            return masks

        return wait

    def _bound(self, graph: str) -> tuple[_Call, _Call]:
        interface = self._contract.interface(graph)
        specs = (*interface.inputs, *interface.outputs)
        frames = [self._allocate(interface.inputs[0]) for _ in range(2)]
        # From the stream that reads them last, which frees them.
        sizes = self._sizes(interface.outputs[0])
        masks = [self._download.array(sizes, interface.outputs[0].dtype) for _ in range(2)]
        sets = [
            dict(zip(specs, (frames[n], *self._fixed, *before, masks[n], *after), strict=True))
            for n, (before, after) in enumerate((self._buffers, self._buffers[::-1]))
        ]
        starts = self._engine.bind(graph, self._compute, *sets)
        for stream in (self._compute, self._download):
            stream.wait()  # until the arrays are there for the other streams
        capture = partial(self._engine.capture, self._compute) if self._engine.captures else None
        even, odd = (_Call(*one, capture) for one in zip(starts, frames, masks, strict=True))
        return even, odd

    def _allocate(self, spec: TensorSpec) -> DeviceArray:
        return self._compute.array(self._sizes(spec), spec.dtype)

    def _read(self, buffer: DeviceArray) -> NDArray[np.generic]:
        return buffer.download(self._compute)

    def _write(self, buffer: DeviceArray, value: NDArray[np.generic]) -> None:
        buffer.upload(self._compute, value)


class _Call:
    """A graph on one of the two sets of arrays.

    The first time it is started as it is, so that libraries choose their kernels and take their
    memory; the second time it is captured. Nothing has to be restored: it reads one set of states
    and writes the other, however often it is run.
    """

    def __init__(
        self,
        work: Callable[[], None],
        frames: DeviceArray,
        masks: DeviceArray,
        capture: Callable[[Callable[[], None]], Callable[[], None]] | None,
    ) -> None:
        self.frames, self.masks = frames, masks
        self.done: Event | None = None
        self._work, self._capture = work, capture
        self._warm = False
        self._captured: Callable[[], None] | None = None

    def start(self) -> None:
        """Give the graph to the stream."""
        if self._captured is None and self._capture is not None and self._warm:
            self._captured = self._capture(self._work)
        (self._captured or self._work)()
        self._warm = True

    def wait(self) -> None:
        """Return when the masks of its latest start are there."""
        if self.done is not None:
            self.done.sync()
