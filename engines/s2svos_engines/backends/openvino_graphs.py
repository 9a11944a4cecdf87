"""A bundle's graphs compiled by OpenVINO, in full or split after the encoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from s2svos_engines.backends.openvino_cache import CompiledFiles, compiled_folder
from s2svos_engines.backends.openvino_library import ov
from s2svos_engines.backends.openvino_partition import split_encoder
from s2svos_engines.contract import Counts, StepContract
from s2svos_engines.engine import CompileCache

CORE = ov.Core()
"""The one of this process, which is never given up.

Each core that compiles for the CPU gives the thread a stack for its signals and takes it away when
it goes (2026.4). Of two cores the second to go sets the stack of the first again, which is gone:
the next signal that has a handler, Ctrl-C for one, ends the process.
"""


VERSION = 3
"""Of what is done to a graph before it is compiled, for compiled graphs that were kept."""


def has_bf16() -> bool:
    """Return whether the processor computes in bfloat16."""
    return "BF16" in CORE.get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class SplitGraph(NamedTuple):
    """A graph in two, see :func:`~s2svos_engines.backends.openvino_partition.split_encoder`."""

    encoder: ov.CompiledModel  # of one stream's frames
    recurrent: ov.CompiledModel


class OpenVinoGraphs:
    """Compiles a static graph for each :class:`Counts`, when it is first needed.

    Static, since the CPU plugin (2026.4) fails on the step graph when the object count changes
    between calls ("Can not clone with new dims"); compiling takes about 0.2 s.

    Args:
        models: functions that return the ONNX models, by name.
        sums: a text that is each model's alone, by name.
        contract: of the graphs.
        threads: processor threads of a step.
        steps: of full graphs that may run at the same time.
        encoders: encoders of a split graph that run side by side, on a thread each.
        arithmetic: what floating point is computed in, ``f32``, or ``bf16`` where
            :func:`has_bf16`.
        keep: compiled graphs for the next process.
    """

    def __init__(
        self,
        models: Mapping[str, Callable[[], bytes]],
        sums: Mapping[str, str],
        contract: StepContract,
        *,
        threads: int,
        steps: int,
        encoders: int,
        arithmetic: str,
        keep: bool,
    ) -> None:
        self._models, self._contract, self._arithmetic = models, contract, arithmetic
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads * steps,
            # Without this line OpenVINO takes bfloat16 where the processor has it.
            "INFERENCE_PRECISION_HINT": arithmetic,
            # Else two engines of one thread share a core while the other idles: 49 ms a step each
            # instead of 25. One engine of two threads is as fast either way.
            "ENABLE_CPU_PINNING": False,
        }
        side_by_side = {"PERFORMANCE_HINT": "THROUGHPUT"}
        self._encoder_settings = {**self._settings, **side_by_side, "NUM_STREAMS": encoders}
        if steps > 1:
            self._settings |= {**side_by_side, "NUM_STREAMS": steps}
        self._files = CompiledFiles(CORE, compiled_folder() if keep else None)
        self._sums = sums
        self._full: CompileCache[ov.CompiledModel] = CompileCache()
        self._split: CompileCache[SplitGraph] = CompileCache()
        self._encoders: CompileCache[ov.CompiledModel] = CompileCache()

    def full(self, graph: str, counts: Counts) -> ov.CompiledModel:
        """Return a graph compiled for numbers of objects, entries and streams."""
        return self._full.get(
            (graph, counts),
            lambda: self._files.compiled(
                (self._sums[graph], "full", VERSION, *counts),
                self._settings,
                lambda: self._model(graph, counts),
            ),
        )

    def counted(self, graph: str, counts: Counts) -> ov.CompiledModel:
        """Return a graph whose requests count the time of its layers."""
        model = self._model(graph, counts)
        return CORE.compile_model(model, "CPU", {**self._settings, "PERF_COUNT": True})

    def split(self, graph: str, counts: Counts) -> SplitGraph:
        """Return a graph of one stream as its encoder, and what needs the state."""
        return self._split.get((graph, counts), lambda: self._compile_split(graph, counts))

    def encoder(self, graph: str) -> ov.CompiledModel:
        """Return the encoder of a graph of one stream, the same for any number of objects."""
        return self._encoders.get(
            graph,
            lambda: self._files.compiled(
                (self._sums[graph], "encoder", VERSION),
                self._encoder_settings,
                lambda: self._halves(graph, Counts(objects=1))[0],
            ),
        )

    def _compile_split(self, graph: str, counts: Counts) -> SplitGraph:
        with ThreadPoolExecutor(1) as beside:
            encoder = beside.submit(self.encoder, graph)
            recurrent = self._files.compiled(
                (self._sums[graph], "recurrent", VERSION, *counts),
                self._settings,
                lambda: self._halves(graph, counts)[1],
            )
            return SplitGraph(encoder.result(), recurrent)

    def _halves(self, graph: str, counts: Counts) -> tuple[ov.Model, ov.Model]:
        frames = self._contract.interface(graph).inputs[0].name
        return split_encoder(self._model(graph, counts), frames, self._arithmetic)

    def _model(self, graph: str, counts: Counts) -> ov.Model:
        model = CORE.read_model(self._models[graph](), b"")
        inputs = self._contract.interface(graph).inputs
        model.reshape({spec.name: list(spec.sizes(counts)) for spec in inputs})
        _drop_sums_of_one(model)
        return model


def _drop_sums_of_one(model: ov.Model) -> None:
    """Take sums over axes of length 1 out of a static graph: over the objects of one, for one.

    OpenVINO (2026.4) computes them: 2.6 % of a step in int8.
    """
    for node in model.get_ordered_ops():
        if node.get_type_name() == "ReduceSum" and node.get_keep_dims():
            summed = node.input_value(0)
            if summed.get_shape() == node.output(0).get_shape():
                for reader in node.output(0).get_target_inputs():
                    if reader.get_node().get_type_name() != "Result":  # whose name it has
                        reader.replace_source_output(summed)
