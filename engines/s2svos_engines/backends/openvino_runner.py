"""OpenVINO's requests on a runner's state buffers, with the encoders of several calls ahead.

With two calls in flight the work of two cores looks so, a column a moment; E encodes a frame, R is
the recurrent rest of the step, which alone reads and writes the state::

    core 0:  E0      R0  E2      R1  E3  ...
    core 1:  E1 ---------E3 -----------  ...
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.backends.openvino_graphs import OpenVinoGraphs, SplitGraph
from s2svos_engines.backends.openvino_library import ov
from s2svos_engines.contract import Counts, StepContract, TensorSpec
from s2svos_engines.engine import Engine, Runner, copy_frames
from s2svos_engines.letterbox import NetworkFrame


class OpenVinoRunner(Runner[ov.Tensor]):
    """Requests over the two sets of state buffers; a call alone is run by the full graph."""

    def __init__(
        self,
        engine: Engine,
        graphs: OpenVinoGraphs,
        states: States,
        owners: NDArray[np.int64] | None,
    ) -> None:
        super().__init__(engine, states, owners)
        self._graphs = graphs
        self._max_in_flight = engine.max_in_flight
        self._calls: dict[str, list[_Call]] = {}
        self._in_flight: deque[_Call] = deque()

    def _submit(self, graph: str, frames: Sequence[NetworkFrame]) -> Callable[[], Masks]:
        call = self._idle_call(graph)
        call.take(frames)
        self._in_flight.append(call)
        if len(self._in_flight) > 1 and self._counts.streams == 1:
            for one in self._in_flight:
                one.start_encoding()

        def wait() -> Masks:
            while self._in_flight.popleft() is not call:
                pass  # calls that nobody waited for
            masks = call.finish(self._current)
            self._swap()
            return masks

        return wait

    def _idle_call(self, graph: str) -> _Call:
        """Return a call of a graph that is not in flight."""
        if graph not in self._calls:
            bound = _BoundGraph(
                self._graphs, graph, self._contract, self._counts, self._buffers, self._owners
            )
            self._calls[graph] = [_Call(bound)]
        calls = self._calls[graph]
        while all(call in self._in_flight for call in calls):
            if len(calls) < self._max_in_flight:
                calls.append(_Call(calls[0].graph))
            else:
                self._in_flight.popleft()  # nobody waited for it
        return next(call for call in calls if call not in self._in_flight)

    def _allocate(self, spec: TensorSpec) -> ov.Tensor:
        return _tensor(spec, self._sizes(spec))

    def _read(self, buffer: ov.Tensor) -> NDArray[np.generic]:
        array: NDArray[np.generic] = buffer.data
        return array

    def _write(self, buffer: ov.Tensor, value: NDArray[np.generic]) -> None:
        buffer.data[:] = value


class _BoundGraph:
    """A graph on a runner's buffers, compiled when it is first run: in full, or split.

    Attributes:
        frames: what the contract says of its frames.
        frames_shape: how they lie in a call.
        masks: of the latest call.
    """

    def __init__(
        self,
        graphs: OpenVinoGraphs,
        graph: str,
        contract: StepContract,
        counts: Counts,
        buffers: list[list[ov.Tensor]],
        owners: NDArray[np.int64] | None,
    ) -> None:
        self._graphs, self._graph, self._counts = graphs, graph, counts
        self._buffers, self._owners = buffers, owners
        self._states, self._interface = contract.states, contract.interface(graph)
        self.frames, self._masks = self._interface.inputs[0], self._interface.outputs[0]
        self.frames_shape = self.frames.sizes(counts)
        self.masks = _tensor(self._masks, self._masks.sizes(counts))

    @cached_property
    def full(self) -> list[ov.InferRequest]:
        """Requests of the full graph: from the first set of buffers to the second, and back."""
        return self._requests(self._graphs.full(self._graph, self._counts))

    @cached_property
    def recurrent(self) -> list[ov.InferRequest]:
        """The same without the encoder, whose features are its first inputs."""
        return self._requests(self.split.recurrent)

    @cached_property
    def split(self) -> SplitGraph:
        """The graph in two."""
        return self._graphs.split(self._graph, self._counts)

    def _requests(self, compiled: ov.CompiledModel) -> list[ov.InferRequest]:
        requests = []
        for before, after in (self._buffers, self._buffers[::-1]):
            request = compiled.create_infer_request()
            request.set_tensor(self._masks.name, self.masks)
            if self._owners is not None:
                request.set_tensor(self._interface.inputs[1].name, ov.Tensor(self._owners))
            for state, source, target in zip(self._states, before, after, strict=True):
                request.set_tensor(state.input.name, source)
                # Not by its name, which a feature has too that is a state as it is.
                request.set_tensor(compiled.output(state.output.name), target)
            requests.append(request)
        return requests


class _Call:
    """The frames of a call, and the encoder's request for them if its graph is split."""

    def __init__(self, graph: _BoundGraph) -> None:
        self.graph = graph
        self._frames = _tensor(graph.frames, graph.frames_shape)
        self._encoding = False

    def take(self, frames: Sequence[NetworkFrame]) -> None:
        """Copy the frames."""
        if self._encoding:  # and nobody has waited for it
            self._encoder.wait()
            self._encoding = False
        copy_frames(self._frames.data, frames)

    def start_encoding(self) -> None:
        """Encode the frames while other calls are in flight."""
        if not self._encoding:
            self._encoder.start_async()
            self._encoding = True

    def finish(self, current: int) -> Masks:
        """Advance the state from the current one of the two sets of buffers to the other."""
        if self._encoding:
            self._encoder.wait()
            request = self.graph.recurrent[current]
            for place, feature in enumerate(self._features):
                request.set_input_tensor(place, feature)
        else:
            request = self.graph.full[current]
            request.set_tensor(self.graph.frames.name, self._frames)
        request.infer()
        masks: Masks = self.graph.masks.data
        return masks

    @cached_property
    def _features(self) -> list[ov.Tensor]:
        encoder, _ = self.graph.split
        return [ov.Tensor(port.get_element_type(), port.get_shape()) for port in encoder.outputs]

    @cached_property
    def _encoder(self) -> ov.InferRequest:
        request = self.graph.split.encoder.create_infer_request()
        request.set_input_tensor(self._frames)
        for place, feature in enumerate(self._features):
            request.set_output_tensor(place, feature)
        return request


def _tensor(spec: TensorSpec, shape: Sequence[int]) -> ov.Tensor:
    return ov.Tensor(np.dtype(spec.dtype), ov.Shape(shape))
