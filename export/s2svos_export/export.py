"""Export of a network: its graphs in every precision, compared with it, as a bundle."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import onnx
from torch import nn

from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.contract import BATCH, StepContract, step_graph
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_engines.manifest import BUDGET
from s2svos_engines.registry import (
    GPU_ENGINES,
    SLOW_ENGINES,
    engine_variants,
    installed_engines,
    load_engine,
)
from s2svos_export.calibrate import Clip, activations, calibration_samples
from s2svos_export.drift import DRIFT, DriftReport
from s2svos_export.drift_measure import FRAMES, measure_drift
from s2svos_export.graphs import MAX_OBJECTS, OPSET, Network, describe, export_graph
from s2svos_export.int8 import PARTS, Int8Choice, Int8Search, ReferenceRun
from s2svos_export.quantise import quantise
from s2svos_export.subpixel import with_sub_pixels
from s2svos_export.weight_sharing import share_weights

TOOLS = ("s2svos", "torch", "onnx", "onnxscript", "onnxruntime")

Graphs = Mapping[str, bytes]
"""ONNX models by the name of the graph."""


class DriftError(UserError):
    """Masks drift from PyTorch's more than the budget allows."""


@dataclass(frozen=True)
class ExportConfig:
    """Contents of the bundle, and what it must hold.

    Args:
        precisions: of the bundle's graphs.
        frames_per_call: T of a step graph of several frames besides that of one; 1 for none.
        batch: whether there is a graph of many streams.
        max_objects: the largest object count of the graphs.
        frames: how many to follow beside PyTorch.
        budget: least mean IoU with PyTorch.
        accept_drift: write the bundle all the same.
        int8_parts: how many parts of the step graph int8 takes or leaves; more take longer.
    """

    precisions: tuple[str, ...] = ("fp32",)
    frames_per_call: int = 1
    batch: bool = False
    max_objects: int = MAX_OBJECTS
    frames: int = FRAMES
    budget: float = BUDGET
    accept_drift: bool = False
    int8_parts: int = PARTS

    @property
    def step_graphs(self) -> tuple[str, ...]:
        """Names of all graphs but ``init``."""
        steps = tuple(step_graph(frames) for frames in sorted({1, self.frames_per_call}))
        return (*steps, BATCH) if self.batch else steps


def export(
    network: Network,
    out: Path,
    *,
    name: str,
    clip: Clip,
    source: str,
    calibration: Iterable[Clip] = (),
    config: ExportConfig = ExportConfig(),
    facts: Mapping[str, Any],
    log: Callable[[str], None],
    progress: Callable[[int], None] = lambda frame: None,
) -> DriftReport:
    """Export a network into a bundle if its graphs follow objects as PyTorch does.

    Args:
        network: a module in evaluation mode, in fp32, on the CPU.
        out: the bundle, replaced if it exists.
        name: of the network, part of the graphs' names.
        clip: frames with the first frame's ids, on which drift is measured and int8 chosen, so that
            it is iterated twice; a short one is repeated back and forth.
        source: name of the clip in the report.
        calibration: likewise, the clips by which int8's ranges are set.
        config: precisions and budget.
        facts: JSON types for the manifest: what the network is and how it was trained.
        log: called with a line for each part of the work.
        progress: called with the index of every frame over which drift is measured.

    Raises:
        DriftError: masks drift more than the budget allows. Nothing is written.
        UserError: the calibration clips are too short, or there is no temporary folder.
        OSError: ``out`` cannot be written; it is what it was.
    """
    with _TrialEngines(network.contract) as trials:
        exporter = _Exporter(network, name, config, log)
        graphs = exporter.floating_point()
        facts = {
            **facts,
            "opset": OPSET,
            "tools": {tool: version(tool) for tool in TOOLS},
            "max_objects": config.max_objects,
        }
        if "int8" in config.precisions:
            graphs["int8"], choice = exporter.int8(graphs["fp32"], clip, calibration, trials)
            facts["int8"] = choice.to_json()
        engines = [
            engine
            for precision in config.precisions
            for name in installed_engines()
            # Those of the GPU are s2svos doctor's to prove; PyTorch is what all are compared with.
            if name not in (*GPU_ENGINES, *SLOW_ENGINES)
            for engine in trials.variants(graphs[precision], precision, name)
        ]
        log(f"following {config.frames} frames beside PyTorch")
        report = measure_drift(
            network, engines, clip, source=source, frames=config.frames, progress=progress
        )
    failures = report.verdict(config.budget)
    if failures and not config.accept_drift:
        raise DriftError("; ".join(map(str, failures)), "lower the budget or accept the drift")
    write_bundle(
        out,
        contract=network.contract,
        graphs=share_weights({precision: graphs[precision] for precision in config.precisions}),
        facts={**facts, "parity": report.parity()},
        others={DRIFT: json.dumps(report.to_json()).encode()},
    )
    return report


def sizes(bundle: Bundle) -> dict[str, int]:
    """Return the bytes of a bundle with the graphs of each precision alone."""
    manifest = bundle.manifest
    found = {}
    for precision, graphs in manifest.graphs.items():
        members = {piece for member in graphs.values() for piece in manifest.pieces(member)}
        found[precision] = sum(len(bundle.read(member)) for member in members)
    return found


class _TrialEngines:
    """Engines with graphs that are in no bundle yet: one is written for each, and removed.

    Args:
        contract: of the graphs.
    """

    def __init__(self, contract: StepContract) -> None:
        self._contract = contract

    def __enter__(self) -> _TrialEngines:
        with _temporary_folder_errors():
            self._folder = tempfile.TemporaryDirectory(prefix="s2svos-")
        return self

    def __exit__(self, *error: object) -> None:
        self._folder.cleanup()

    def load(self, graphs: Graphs, precision: str, threads: int | None = None) -> Engine:
        """Return the fastest engine with the graphs, which it has read then.

        Raises:
            UserError: the temporary folder cannot be written.
        """
        with self._bundle(graphs, precision) as bundle:
            return load_engine(bundle, precision=precision, threads=threads)

    def variants(self, graphs: Graphs, precision: str, name: str) -> list[Engine]:
        """Return an engine with the graphs in each arithmetic that it may choose.

        Raises:
            UserError: the temporary folder cannot be written.
        """
        # One thread: of two that share a step one waits for the other, and here many run.
        with self._bundle(graphs, precision) as bundle:
            return engine_variants(bundle, name, precision=precision, threads=1)

    @contextmanager
    def _bundle(self, graphs: Graphs, precision: str) -> Iterator[Bundle]:
        with (
            _temporary_folder_errors(),
            tempfile.NamedTemporaryFile(dir=self._folder.name, suffix=".s2s", delete=False) as file,
        ):
            path = Path(file.name)
        with _temporary_folder_errors():
            write_bundle(path, contract=self._contract, graphs={precision: graphs}, facts={})
        yield Bundle.open(path)
        path.unlink()


@contextmanager
def _temporary_folder_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The temporary folder cannot be written ({error.strerror or error})",
            "free space there, or set TMPDIR to a folder on another disk",
        ) from error


class _Exporter:
    """The graphs of a network.

    Args:
        network: a module in evaluation mode.
        name: of the network.
        config: says which graphs.
        log: called with a line for each part of the work.
    """

    def __init__(
        self, network: Network, name: str, config: ExportConfig, log: Callable[[str], None]
    ) -> None:
        self._network, self._name, self._config, self._log = network, name, config, log

    def floating_point(self) -> dict[str, Graphs]:
        """Return all graphs in fp32 and, if it is wanted, in fp16."""
        precisions = ["fp32", "fp16"] if "fp16" in self._config.precisions else ["fp32"]
        names = ("init", *self._config.step_graphs)
        return {
            precision: {graph: self._export(self._network, graph, precision) for graph in names}
            for precision in precisions
        }

    def int8(
        self, fp32: Graphs, clip: Clip, calibration: Iterable[Clip], trials: _TrialEngines
    ) -> tuple[Graphs, Int8Choice]:
        """Return all graphs in int8, and what of them is."""
        config = self._config
        exact = self._without_transposed_convolutions(fp32)
        init = {"init": fp32["init"]}  # runs once: nothing is to be gained there
        self._log("choosing what int8 takes")
        engine = trials.load(fp32, "fp32")
        ranges = activations(exact["step"], calibration_samples(engine, calibration))
        search = Int8Search(
            exact["step"],
            ranges,
            lambda step, threads: trials.load({**init, "step": step}, "int8", threads),
            ReferenceRun(engine, clip, frames=config.frames),
            parts=config.int8_parts,
            quick_frames=max(1, config.frames // 6),
        )
        # A little more than the budget: a clip that is too short for the report is repeated there.
        choice = search.run(config.budget + (1 - config.budget) / 10)
        taken, every = len(choice.weights), len(choice.weights) + len(choice.kept_fp32)
        self._log(f"int8 takes {taken} of {every} convolutions, IoU with fp32 {choice.iou:.4f}")
        graphs = dict(init)
        for graph, fp32_model in exact.items():
            model = onnx.load_model_from_string(quantise(fp32_model, ranges, choice.weights))
            title = self._title(graph, "int8")
            describe(model, self._network.contract, graph, title=title, precision="int8")
            graphs[graph] = model.SerializeToString()
        return graphs, choice

    def _without_transposed_convolutions(self, fp32: Graphs) -> Graphs:
        """Return the step graphs with convolutions of sub-pixels in place of transposed ones.

        ONNX Runtime has no int8 transposed convolution. In floating point both forms take as long.
        """
        names = self._config.step_graphs
        module = cast(nn.Module, self._network)
        if not any(isinstance(one, nn.ConvTranspose2d) for one in module.modules()):
            return {graph: fp32[graph] for graph in names}
        plain = cast(Network, with_sub_pixels(module))
        return {graph: self._export(plain, graph, "fp32") for graph in names}

    def _export(self, network: Network, graph: str, precision: str) -> bytes:
        self._log(f"exporting {graph} in {precision}")
        return export_graph(
            network,
            graph,
            title=self._title(graph, precision),
            precision=precision,
            max_objects=self._config.max_objects,
        )

    def _title(self, graph: str, precision: str) -> str:
        return f"s2svos_{self._name}_{graph}_{precision}"
