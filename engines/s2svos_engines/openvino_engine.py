"""OpenVINO on the CPU."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import cycle
from threading import Lock

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import Masks, ResidentCell, fill
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.engine import States
from s2svos_engines.frames import Picture
from s2svos_engines.openvino_halves import halves

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

    A call alone is run by all threads. Of calls that are under way at once the parts that need no
    state, the encoders, run side by side on a thread each, which leaves nobody to wait for: a frame
    then takes 55 ms of two cores' time instead of 65.

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
        """The same as encoder, which any number of objects share, and rest."""
        encoder, rest = ("encoder", graph, streams), ("rest", graph, objects, streams)
        with self._lock:
            if rest not in self._compiled:
                model = self._model(graph, objects, streams)
                parts = halves(model, self.contract.interface(graph).inputs[0].name)
                if encoder not in self._compiled:
                    compiled = _CORE.compile_model(parts[0], "CPU", self._encoding)
                    self._compiled[encoder] = compiled
                self._compiled[rest] = _CORE.compile_model(parts[1], "CPU", self._settings)
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
        self._graphs: dict[str, _Graph] = {}
        self._under_way: deque[tuple[_Graph, _Call]] = deque()
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
        if graph not in self._graphs:
            sizes = graph, self._objects, self._streams
            self._graphs[graph] = _Graph(self._engine, sizes, self._buffers, self._owners)
        bound = self._graphs[graph]
        call = next(bound.calls)
        call.take(frames)
        self._under_way.append((bound, call))
        if len(self._under_way) > 1:
            for its_graph, one in self._under_way:
                one.start(its_graph)

        def found() -> Masks:
            while self._under_way.popleft()[1] is not call:
                pass  # of those that nobody waited for
            call.finish(bound, self._now)
            self._now = 1 - self._now
            masks: Masks = bound.masks.data
            return masks

        return found

    def _tensor(self, spec: TensorSpec) -> ov.Tensor:
        return _tensor(spec, self._sizes(spec))


class _Graph:
    """A graph on a cell's buffers, compiled when it is first run: whole, or in halves.

    Attributes:
        calls: over and over, as many as may be under way.
        masks: what the latest call found.
    """

    def __init__(
        self,
        engine: OpenVinoEngine,
        sizes: tuple[str, int, int],
        buffers: list[list[ov.Tensor]],
        owners: NDArray[np.int64] | None,
    ) -> None:
        self._engine, self._sizes, self._buffers, self._owners = engine, sizes, buffers, owners
        graph, objects, streams = sizes
        self._interface = engine.contract.interface(graph)
        self.frame, self._mask = self._interface.inputs[0], self._interface.outputs[0]
        pictures, masks = (
            spec.sizes(objects=objects, streams=streams) for spec in (self.frame, self._mask)
        )
        self.calls = cycle([_Call(_tensor(self.frame, pictures)) for _ in range(engine.ahead)])
        self.masks = _tensor(self._mask, masks)

    @cached_property
    def whole(self) -> list[ov.InferRequest]:
        """From the first set of buffers to the second, and back."""
        return self._bound(self._engine.compiled(*self._sizes))

    @cached_property
    def rest(self) -> list[ov.InferRequest]:
        """The same without the encoder, whose features are its first inputs."""
        return self._bound(self._engine.halves(*self._sizes)[1])

    def encoder(self) -> ov.InferRequest:
        """From frames to features."""
        return self._engine.halves(*self._sizes)[0].create_infer_request()

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
    """The frames of a call, and the encoder's request for them if it is not alone."""

    def __init__(self, pictures: ov.Tensor) -> None:
        self._pictures = pictures
        self._encoder: ov.InferRequest | None = None
        self._started: ov.InferRequest | None = None  # the encoder, where it is at work or done

    def take(self, frames: Sequence[Picture]) -> None:
        """Copies the frames."""
        if self._started:  # and maybe nobody waited for it
            self._started.wait()
        self._started = None
        fill(self._pictures.data, frames)

    def start(self, graph: _Graph) -> None:
        """Encodes while others are under way."""
        if self._started:
            return
        if self._encoder is None:
            self._encoder = graph.encoder()
            self._encoder.set_input_tensor(self._pictures)
        self._encoder.start_async()
        self._started = self._encoder

    def finish(self, graph: _Graph, now: int) -> None:
        """Advances the state, from this of the two sets of buffers."""
        if self._started:
            self._started.wait()
            request = graph.rest[now]
            for place, _ in enumerate(self._started.model_outputs):
                request.set_input_tensor(place, self._started.get_output_tensor(place))
        else:
            request = graph.whole[now]
            request.set_tensor(graph.frame.name, self._pictures)
        request.infer()


def _tensor(spec: TensorSpec, shape: Sequence[int]) -> ov.Tensor:
    return ov.Tensor(np.dtype(spec.dtype), ov.Shape(shape))
