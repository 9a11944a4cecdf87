"""OpenVINO on the CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from threading import Lock

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from s2svos_engines.arrays import Picture
from s2svos_engines.backends.openvino_partition import halves
from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import Masks, ResidentCell, fill
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.engine import States

_CORE = ov.Core()
"""The one of this process, which is never given up.

Each core that compiles for the CPU gives the thread a stack for its signals and takes it away when
it goes (2026.4). Of two cores the second to go sets the stack of the first again, which is gone:
the next signal that has a handler, Ctrl-C for one, ends the process.
"""

_MOST_ENCODERS = 8  # that run at once, so that many cores do not mean many frames in memory


def has_bf16() -> bool:
    """Whether the processor computes in bfloat16."""
    return "BF16" in _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVinoEngine:
    """Compiles one static graph for each count of objects and streams, when it is first needed.

    Static, since the CPU plugin (2026.4) fails on the step graph when the object count changes
    between calls ("Can not clone with new dims"); compiling takes about 0.2 s.

    A call alone is run by all threads. Of calls that are under way at once, and of the streams of
    one call, the parts that need no state, the encoders, run side by side on a thread each, which
    leaves nobody to wait for: a frame then takes 55 ms of two cores' time instead of 65.

    Args:
        bundle: with the graphs.
        threads: processor threads of a step.
        precision: of the graphs.
        arithmetic: what floating point is computed in, ``f32``, or ``bf16`` where
            :func:`has_bf16`.
    """

    name = "openvino"
    on_gpu = False

    def __init__(
        self, bundle: Bundle, *, threads: int, precision: str = "fp32", arithmetic: str = "f32"
    ) -> None:
        if arithmetic != "f32":
            self.name = f"{self.name} {arithmetic}"
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        encoders = min(threads, _MOST_ENCODERS)
        # One more for each that is at work: 28 ms a frame with 4 calls, 30 with 3, 33 with 2.
        self.ahead = 2 * encoders if threads > 1 else 1
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Without this line OpenVINO takes bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": arithmetic,
            # Else two engines of one thread share a core while the other idles: 49 ms a step each
            # instead of 25. One engine of two threads is as fast either way.
            "ENABLE_CPU_PINNING": False,
        }
        self._encoding = {
            **self._settings, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": encoders
        }  # fmt: skip
        # Read now: a bundle may be gone by the time that an object count is first compiled.
        names = bundle.graph_names(precision)
        self._graphs = {g: bundle.graph(g, precision=precision) for g in names}
        self.batches = BATCH in names
        self._compiled: dict[tuple[str | int, ...], ov.CompiledModel] = {}
        self._lock = Lock()

    def init(self, frame: Picture, first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        compiled = self.compiled("init", len(first_masks))
        results = compiled.create_infer_request().infer(
            {self.contract.frame.name: frame, self.contract.first_masks.name: first_masks}
        )
        return [results[spec.name].copy() for spec in self.contract.init_outputs]

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> OpenVinoCell:
        """A cell that starts from a copy of ``states``."""
        return OpenVinoCell(self, states, owners)

    def compiled(self, graph: str, objects: int, streams: int = 1) -> ov.CompiledModel:
        """A graph for numbers of objects and streams, from the cache or made now."""
        key = graph, objects, streams
        with self._lock:
            if key not in self._compiled:
                model = self._model(graph, objects, streams)
                self._compiled[key] = _CORE.compile_model(model, "CPU", self._settings)
            return self._compiled[key]

    def halves(
        self, graph: str, objects: int, streams: int = 1
    ) -> tuple[ov.CompiledModel, ov.CompiledModel]:
        """The same as the encoder of one stream's frames, and the rest."""
        encoder, rest = ("encoder", graph), ("rest", graph, objects, streams)
        frames = self.contract.interface(graph).inputs[0].name
        with self._lock:
            if rest not in self._compiled:
                model, others = halves(self._model(graph, objects, streams), frames)
                if encoder not in self._compiled:
                    if streams > 1:
                        model, _ = halves(self._model(graph, 1, 1), frames)
                    self._compiled[encoder] = _CORE.compile_model(model, "CPU", self._encoding)
                self._compiled[rest] = _CORE.compile_model(others, "CPU", self._settings)
            return self._compiled[encoder], self._compiled[rest]

    def _model(self, graph: str, objects: int, streams: int) -> ov.Model:
        model = _CORE.read_model(self._graphs[graph], b"")
        inputs = self.contract.interface(graph).inputs
        model.reshape(
            {spec.name: list(spec.sizes(objects=objects, streams=streams)) for spec in inputs}
        )
        return model


class OpenVinoCell(ResidentCell):
    """Requests over two sets of state buffers: what one writes the other reads."""

    def __init__(
        self, engine: OpenVinoEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine.contract, states, owners)
        self._engine, self._owners = engine, owners
        self._buffers = [[self._tensor(spec) for spec in self._states] for _ in range(2)]
        self._calls: dict[str, list[_Call]] = {}
        self._under_way: deque[_Call] = deque()
        self._now = 0
        self.load(states)

    def states(self) -> States:
        """The current state; valid until the next step."""
        return [buffer.data for buffer in self._buffers[self._now]]

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``."""
        for buffer, value in zip(self._buffers[self._now], states, strict=True):
            buffer.data[:] = value

    def _begin(self, graph: str, frames: Sequence[Picture]) -> Callable[[], Masks]:
        call = self._free(graph)
        call.take(frames)
        self._under_way.append(call)
        if len(self._under_way) > 1 or (self._streams > 1 and self._engine.ahead > 1):
            for one in self._under_way:
                one.start()

        def found() -> Masks:
            while self._under_way.popleft() is not call:
                pass  # of those that nobody waited for
            masks = call.finish(self._now)
            self._now = 1 - self._now
            return masks

        return found

    def _free(self, graph: str) -> _Call:
        """A call of a graph that is not under way."""
        if graph not in self._calls:
            sizes = graph, self._objects, self._streams
            bound = _Graph(self._engine, sizes, self._buffers, self._owners)
            self._calls[graph] = [_Call(bound)]
        calls = self._calls[graph]
        while all(call in self._under_way for call in calls):
            if len(calls) < self._engine.ahead:
                calls.append(_Call(calls[0].graph))
            else:
                self._under_way.popleft()  # nobody waited for it
        return next(call for call in calls if call not in self._under_way)

    def _tensor(self, spec: TensorSpec) -> ov.Tensor:
        return _tensor(spec, self._sizes(spec))


class _Graph:
    """A graph on a cell's buffers, compiled when it is first run: whole, or in halves.

    Attributes:
        frame: what the contract says of its frames.
        streams: whose frames they are.
        masks: of the latest call.
    """

    def __init__(
        self,
        engine: OpenVinoEngine,
        sizes: tuple[str, int, int],
        buffers: list[list[ov.Tensor]],
        owners: NDArray[np.int64] | None,
    ) -> None:
        self._engine, self._sizes, self._buffers, self._owners = engine, sizes, buffers, owners
        graph, objects, self.streams = sizes
        self._interface = engine.contract.interface(graph)
        self.frame, self._mask = self._interface.inputs[0], self._interface.outputs[0]
        self.masks = _tensor(self._mask, self._mask.sizes(objects=objects, streams=self.streams))

    @cached_property
    def whole(self) -> list[ov.InferRequest]:
        """From the first set of buffers to the second, and back."""
        return self._bound(self._engine.compiled(*self._sizes))

    @cached_property
    def rest(self) -> list[ov.InferRequest]:
        """The same without the encoder, whose features are its first inputs."""
        return self._bound(self.halves[1])

    @cached_property
    def halves(self) -> tuple[ov.CompiledModel, ov.CompiledModel]:
        """The encoder of a stream's frames, and the rest."""
        return self._engine.halves(*self._sizes)

    def _bound(self, compiled: ov.CompiledModel) -> list[ov.InferRequest]:
        requests = []
        for before, after in (self._buffers, self._buffers[::-1]):
            request = compiled.create_infer_request()
            request.set_tensor(self._mask.name, self.masks)
            if self._owners is not None:
                request.set_tensor(self._interface.inputs[1].name, ov.Tensor(self._owners))
            states = self._engine.contract.states
            for state, source, target in zip(states, before, after, strict=True):
                request.set_tensor(state.input.name, source)
                # Not by its name, which a feature has too that is a state as it is.
                request.set_tensor(compiled.output(state.output.name), target)
            requests.append(request)
        return requests


class _Call:
    """The frames of a call, and the encoders' requests for them if it is run in halves."""

    def __init__(self, graph: _Graph) -> None:
        self.graph = graph
        shape = graph.frame.sizes(objects=1, streams=graph.streams)
        self._pictures = _tensor(graph.frame, shape)
        self._features: list[ov.Tensor] = []
        self._encoders: list[ov.InferRequest] = []
        self._started = False

    def take(self, frames: Sequence[Picture]) -> None:
        """Copies the frames."""
        self._wait()  # where nobody has
        self._started = False
        fill(self._pictures.data, frames)

    def start(self) -> None:
        """Encodes while others are under way."""
        if self._started:
            return
        if not self._encoders:
            self._bind()
        for encoder in self._encoders:
            encoder.start_async()
        self._started = True

    def finish(self, now: int) -> Masks:
        """Advances the state, from this of the two sets of buffers."""
        if self._started:
            self._wait()
            request = self.graph.rest[now]
            for place, feature in enumerate(self._features):
                request.set_input_tensor(place, feature)
        else:
            request = self.graph.whole[now]
            request.set_tensor(self.graph.frame.name, self._pictures)
        request.infer()
        masks: Masks = self.graph.masks.data
        return masks

    def _wait(self) -> None:
        if self._started:
            for encoder in self._encoders:
                encoder.wait()

    def _bind(self) -> None:
        """An encoder for each stream, which writes its part of the features."""
        encoder, rest = self.graph.halves
        self._features = [
            ov.Tensor(port.get_element_type(), port.get_shape())
            for port in rest.inputs[: len(encoder.outputs)]
        ]
        for stream in range(self.graph.streams):
            request = encoder.create_infer_request()
            request.set_input_tensor(self._part(self._pictures, stream))
            for place, feature in enumerate(self._features):
                request.set_output_tensor(place, self._part(feature, stream))
            self._encoders.append(request)

    def _part(self, tensor: ov.Tensor, stream: int) -> ov.Tensor:
        if self.graph.streams == 1:
            return tensor
        return ov.Tensor(tensor.data[stream : stream + 1], shared_memory=True)


def _tensor(spec: TensorSpec, shape: Sequence[int]) -> ov.Tensor:
    return ov.Tensor(np.dtype(spec.dtype), ov.Shape(shape))
