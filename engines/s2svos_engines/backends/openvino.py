"""OpenVINO on the CPU."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.backends.openvino_partition import split_encoder
from s2svos_engines.backends.openvino_runner import OpenVinoRunner
from s2svos_engines.bundle import Bundle
from s2svos_engines.engine import CompileCache, Engine
from s2svos_engines.letterbox import NetworkFrame

_CORE = ov.Core()
"""The one of this process, which is never given up.

Each core that compiles for the CPU gives the thread a stack for its signals and takes it away when
it goes (2026.4). Of two cores the second to go sets the stack of the first again, which is gone:
the next signal that has a handler, Ctrl-C for one, ends the process.
"""

_MAX_ENCODERS = 8  # that run at once, so that many cores do not mean many frames in memory


def has_bf16() -> bool:
    """Return whether the processor computes in bfloat16."""
    return "BF16" in _CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class SplitGraph(NamedTuple):
    """A graph in two: see :func:`~s2svos_engines.backends.openvino_partition.split_encoder`."""

    encoder: ov.CompiledModel  # of one stream's frames
    recurrent: ov.CompiledModel


class OpenVinoEngine(Engine):
    """Compiles one static graph for each count of objects and streams, when it is first needed.

    Static, since the CPU plugin (2026.4) fails on the step graph when the object count changes
    between calls ("Can not clone with new dims"); compiling takes about 0.2 s.

    A call alone is run by all threads. Of calls that are in flight together, and of the streams of
    one call, the encoders, which need no state, run side by side on a thread each, so that no
    thread waits for another: a frame then takes 55 ms of two cores' time instead of 65.

    Args:
        bundle: with the graphs.
        threads: processor threads of a step.
        precision: of the graphs.
        arithmetic: what floating point is computed in, ``f32``, or ``bf16`` where
            :func:`has_bf16`.
    """

    name = "openvino"

    def __init__(
        self, bundle: Bundle, *, threads: int, precision: str = "fp32", arithmetic: str = "f32"
    ) -> None:
        super().__init__(bundle, precision=precision)
        if arithmetic != "f32":
            self.name = f"{self.name} {arithmetic}"
        encoders = min(threads, _MAX_ENCODERS)
        # One more for each encoder at work: 28 ms a frame with 4 calls, 30 with 3, 33 with 2.
        self.max_in_flight = 2 * encoders if threads > 1 else 1
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            # Without this line OpenVINO takes bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": arithmetic,
            # Else two engines of one thread share a core while the other idles: 49 ms a step each
            # instead of 25. One engine of two threads is as fast either way.
            "ENABLE_CPU_PINNING": False,
        }
        self._encoder_settings = {
            **self._settings, "PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": encoders
        }  # fmt: skip
        self._graphs = bundle.graphs(precision)
        self._full: CompileCache[ov.CompiledModel] = CompileCache()
        self._split: CompileCache[SplitGraph] = CompileCache()
        self._encoders: CompileCache[ov.CompiledModel] = CompileCache()

    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of objects that enter on ``frame``."""
        request = self.full("init", len(first_masks)).create_infer_request()
        results = request.infer(
            {self.contract.frame.name: frame, self.contract.first_masks.name: first_masks}
        )
        return [results[spec.name].copy() for spec in self.contract.init_outputs]

    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> OpenVinoRunner:
        """Return a runner that starts from a copy of ``states``."""
        return OpenVinoRunner(self, states, owners)

    def full(self, graph: str, objects: int, streams: int = 1) -> ov.CompiledModel:
        """Return a graph compiled for numbers of objects and streams."""
        return self._full.get(
            (graph, objects, streams),
            lambda: _CORE.compile_model(
                self._model(graph, objects, streams), "CPU", self._settings
            ),
        )

    def split(self, graph: str, objects: int, streams: int = 1) -> SplitGraph:
        """Return the same as the encoder of one stream's frames, and what needs the state."""
        key = graph, objects, streams
        return self._split.get(key, lambda: self._compile_split(graph, objects, streams))

    def _compile_split(self, graph: str, objects: int, streams: int) -> SplitGraph:
        frames = self.contract.interface(graph).inputs[0].name
        encoder, recurrent = split_encoder(self._model(graph, objects, streams), frames)

        def compile_encoder() -> ov.CompiledModel:
            own = encoder
            if streams > 1:
                own, _ = split_encoder(self._model(graph, 1, 1), frames)
            return _CORE.compile_model(own, "CPU", self._encoder_settings)

        return SplitGraph(
            self._encoders.get(graph, compile_encoder),
            _CORE.compile_model(recurrent, "CPU", self._settings),
        )

    def _model(self, graph: str, objects: int, streams: int) -> ov.Model:
        model = _CORE.read_model(self._graphs[graph], b"")
        inputs = self.contract.interface(graph).inputs
        model.reshape(
            {spec.name: list(spec.sizes(objects=objects, streams=streams)) for spec in inputs}
        )
        return model
