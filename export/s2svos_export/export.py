"""Export: graphs, precisions, proof, bundle."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import onnx
from torch import nn

from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.contract import BATCH, step_graph
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_engines.registry import GPU_ENGINES, SLOW_ENGINES, installed_engines, load_engine
from s2svos_export.calibrate import Clip, activations, readings
from s2svos_export.drift import BUDGET, DriftReport
from s2svos_export.drift_measure import FRAMES, measure_drift
from s2svos_export.graphs import MOST_OBJECTS, OPSET, StepNetwork, describe, export_graph
from s2svos_export.int8 import Choice, Course, choose
from s2svos_export.quantise import convolutions, quantise
from s2svos_export.subpixel import with_sub_pixels
from s2svos_export.weight_sharing import share_weights

TOOLS = ("s2svos", "torch", "onnx", "onnxscript", "onnxruntime")
PRECISIONS = ("fp32", "fp16", "int8")
DRIFT = "drift.json"  # member of the bundle

Graphs = dict[str, dict[str, bytes]]  # by precision, by name


@dataclass(frozen=True)
class ExportConfig:
    """What is exported and what it must hold.

    Args:
        precisions: of the bundle's graphs.
        frames_per_call: T of a step graph of several frames besides that of one; 1 for none.
        batch: whether there is a graph of many streams.
        max_objects: the largest object count of the graphs.
        frames: over which drift is measured.
        budget: least mean IoU with PyTorch.
        accept_drift: write the bundle all the same.
    """

    precisions: tuple[str, ...] = ("fp32",)
    frames_per_call: int = 1
    batch: bool = False
    max_objects: int = MOST_OBJECTS
    frames: int = FRAMES
    budget: float = BUDGET
    accept_drift: bool = False


def export(
    network: StepNetwork,
    out: Path,
    *,
    name: str,
    clip: Clip,
    source: str,
    calibration: Iterable[Clip] = (),
    config: ExportConfig = ExportConfig(),
    facts: Mapping[str, Any],
    say: Callable[[str], None],
    progress: Callable[[int], None] = lambda frame: None,
) -> DriftReport:
    """Exports a network into a bundle, once its graphs track as PyTorch does.

    Args:
        network: keeps the step contract; in evaluation mode, in fp32, on the CPU.
        out: the bundle, replaced where it exists.
        name: of the network, part of the graphs' names.
        clip: frames with the first frame's ids, on which drift is measured and int8 chosen, so that
            it is iterated twice; a short one is repeated back and forth.
        source: names the clip in the report.
        calibration: likewise, the clips by which int8's ranges are set.
        config: precisions and budget.
        facts: JSON types for the manifest: what the network is and how it was trained.
        say: is told what happens.
        progress: is told every frame over which drift is measured.

    Raises:
        UserError: masks drift more than the budget allows, the calibration clips are too short, or
            ``out`` cannot be written. Nothing is.
    """
    with tempfile.TemporaryDirectory() as folder:
        trials = _Trials(Path(folder), network)
        graphs, choice = _graphs(network, name, clip, calibration, config, trials, say)
        tools = {tool: version(tool) for tool in TOOLS}
        facts = {**facts, "opset": OPSET, "tools": tools, "max_objects": config.max_objects}
        if choice:
            facts["int8"] = {**asdict(choice), "weights": sorted(choice.weights)}
        engines = [
            # One thread: of two that share a step one waits for the other, and here many run.
            trials.engine(graphs, precision, engine, threads=1)
            for precision in config.precisions
            for engine in installed_engines()
            # Those of the GPU are s2svos doctor's to prove; PyTorch is what all are compared with.
            if engine not in (*GPU_ENGINES, *SLOW_ENGINES)
        ]
        say(f"following {config.frames} frames beside PyTorch")
        report = measure_drift(
            network, engines, clip, source=source, frames=config.frames, progress=progress
        )
    failures = report.verdict(config.budget)
    if failures and not config.accept_drift:
        raise UserError(
            f"{'; '.join(map(str, failures))}. Nothing was written",
            "lower --drift-budget or say --accept-drift if that will do",
        )
    try:
        write_bundle(
            out,
            contract=network.contract,
            graphs=share_weights({p: graphs[p] for p in config.precisions}),
            facts={**facts, "parity": report.parity()},
            others={DRIFT: json.dumps(report.to_json()).encode()},
        )
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror})", "choose another -o"
        ) from error
    return report


class _Trials:
    """Bundles that are written, loaded and forgotten."""

    def __init__(self, folder: Path, network: StepNetwork) -> None:
        self._path, self.contract = folder / "trial.s2s", network.contract

    def engine(
        self,
        graphs: Mapping[str, Mapping[str, bytes]],
        precision: str,
        name: str = "auto",
        *,
        threads: int | None = None,
    ) -> Engine:
        chosen = {precision: graphs[precision]}
        try:
            write_bundle(self._path, contract=self.contract, graphs=chosen, facts={})
        except OSError as error:
            raise UserError(
                f"The temporary folder {self._path.parent} cannot be written ({error.strerror})",
                "free space there, or set TMPDIR to a folder on another disk",
            ) from error
        return load_engine(Bundle.open(self._path), name, precision=precision, threads=threads)


def _graphs(
    network: StepNetwork,
    name: str,
    clip: Clip,
    calibration: Iterable[Clip],
    config: ExportConfig,
    trials: _Trials,
    say: Callable[[str], None],
) -> tuple[Graphs, Choice | None]:
    """The graphs of all precisions, and what int8 quantises."""
    steps = [step_graph(frames) for frames in sorted({1, config.frames_per_call})]
    steps += [BATCH] if config.batch else []

    def title(graph: str, precision: str) -> str:
        return f"s2svos_{name}_{graph}_{precision}"

    def exported(source: StepNetwork, graph: str, precision: str) -> bytes:
        say(f"exporting {graph} in {precision}")
        return export_graph(
            source,
            graph,
            title=title(graph, precision),
            precision=precision,
            max_objects=config.max_objects,
        )

    floating = [p for p in PRECISIONS if p in (*config.precisions, "fp32") and p != "int8"]
    graphs = {
        precision: {graph: exported(network, graph, precision) for graph in ("init", *steps)}
        for precision in floating
    }
    if "int8" not in config.precisions:
        return graphs, None

    # ONNX Runtime has no int8 transposed convolution. In floating point both forms take as long.
    plain = cast(StepNetwork, with_sub_pixels(cast(nn.Module, network)))
    same = not any(isinstance(m, nn.ConvTranspose2d) for m in cast(nn.Module, network).modules())
    models = {g: graphs["fp32"][g] if same else exported(plain, g, "fp32") for g in steps}
    say("choosing what int8 takes")
    exact = trials.engine(graphs, "fp32")
    ranges = activations(models["step"], readings(exact, network.contract, calibration))
    course = Course(exact, network.contract, clip, frames=config.frames)
    init = {"init": graphs["fp32"]["init"]}  # runs once: nothing is to be gained there

    def trial(weights: frozenset[str], frames: int | None = None) -> float:
        step = quantise(models["step"], ranges, weights)
        return course.iou(trials.engine({"int8": {**init, "step": step}}, "int8"), frames)

    def glance(weights: frozenset[str]) -> float:
        return trial(weights, max(1, config.frames // 6))

    # A little more than the budget: the clip is repeated where it is too short for the report.
    target = config.budget + (1 - config.budget) / 10
    costs = {weights: ranges[weights].multiplications for weights in convolutions(models["step"])}
    choice = choose(costs, glance, trial, target=target)
    taken, every = len(choice.weights), len(choice.weights) + len(choice.spared)
    say(f"int8 takes {taken} of {every} convolutions, IoU with fp32 {choice.iou:.4f}")

    def quantised(graph: str) -> bytes:
        model = onnx.load_model_from_string(quantise(models[graph], ranges, choice.weights))
        describe(model, network.contract, graph, title=title(graph, "int8"), precision="int8")
        serialised: bytes = model.SerializeToString()
        return serialised

    graphs["int8"] = {**init, **{graph: quantised(graph) for graph in steps}}
    return graphs, choice


def sizes(bundle: Bundle) -> dict[str, int]:
    """Bytes of a bundle with the graphs of each precision alone."""
    graphs: Mapping[str, Mapping[str, str]] = bundle.manifest["graphs"]
    found = {}
    for precision, models in graphs.items():
        members = set(models.values()) | {w for m in models.values() for w in bundle.weights(m)}
        found[precision] = sum(len(bundle.read(member)) for member in members)
    return found
