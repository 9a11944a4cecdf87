"""Export of a network: its graphs in every precision, compared with it, as a bundle."""

from __future__ import annotations

import copy
import tempfile
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
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
    AUTO,
    GPU_ENGINES,
    SLOW_ENGINES,
    engine_variants,
    installed_engines,
    load_engine,
)
from s2svos_export.calibrate import Calibrated, Clip, calibrate, calibration_samples
from s2svos_export.drift import DRIFT, DriftReport, parity, write_drift
from s2svos_export.drift_measure import FRAMES, measure_drift
from s2svos_export.graphs import MAX_OBJECTS, OPSET, Network, describe, export_graph
from s2svos_export.int8 import PARTS, Int8Choice, Int8Search, ReferenceRun
from s2svos_export.quantise import quantise, quantise_for_gpu
from s2svos_export.side_by_side import engines_at_once
from s2svos_export.subpixel import with_sub_pixels
from s2svos_export.temporary import temporary_folder, temporary_folder_errors
from s2svos_export.weight_sharing import share_weights

GPU_INT8 = "int8_gpu"
"""What the drift report calls the int8 graphs of the GPU, which are followed on the processor."""
ONNX_RUNTIME = "onnxruntime"  # which takes both forms of int8, and begins at once
TOOLS = ("s2svos", "torch", "onnx", "onnxscript", "onnxruntime")

_Task = Callable[[], dict[str, bytes]]
_Form = Callable[[bytes, Mapping[str, Calibrated], Collection[str]], bytes]
_Key = tuple[str, tuple[str, ...]]  # name of a graph, and what it is exported for

Graphs = Mapping[str, bytes]
"""ONNX models by the name of the graph."""
NamedClip = tuple[str, Clip]
"""A clip, frames with the first one's ids, after the name that reports have for it."""
OtherProcess = Callable[[], AbstractContextManager[Executor | None]]
"""Gives a process that exports graphs beside this one, or None, until it is left."""


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
        frames: how many of each clip to follow beside PyTorch.
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
    clips: Sequence[NamedClip],
    calibration: Sequence[Clip] = (),
    config: ExportConfig = ExportConfig(),
    facts: Mapping[str, Any],
    log: Callable[[str], None],
    progress: Callable[[int], None] = lambda frame: None,
    other_process: OtherProcess = nullcontext,
) -> list[DriftReport]:
    """Export a network into a bundle if its graphs follow objects as PyTorch does.

    Args:
        network: a module in evaluation mode, in fp32, on the CPU.
        out: the bundle, replaced if it exists.
        name: of the network, part of the graphs' names.
        clips: on each of which drift is measured and int8 chosen, so that it is iterated twice; a
            short one is repeated back and forth.
        calibration: clips by which int8 is set, likewise.
        config: precisions and budget.
        facts: JSON types for the manifest: what the network is and how it was trained.
        log: called with a line for each part of the work.
        progress: called with the share of the measurement of drift that is done, from 0 to the
            config's ``frames`` for each clip.
        other_process: to share the graphs with, which take one core each; the network is pickled
            for it.

    Returns:
        How far masks drift on each clip.

    Raises:
        DriftError: masks drift more than the budget allows. Nothing is written.
        UserError: the calibration clips are too short, or there is no temporary folder.
        OSError: ``out`` cannot be written; it is what it was.
    """
    with temporary_folder() as folder:
        trials = _TrialEngines(network.contract, folder)
        exporter = _Exporter(network, name, config, log)
        with other_process() as executor:
            graphs, for_int8 = exporter.floating_point(executor)
        facts = {
            **facts,
            "opset": OPSET,
            "tools": {tool: version(tool) for tool in TOOLS},
            "max_objects": config.max_objects,
        }
        gpu_graphs: dict[str, Graphs] = {}
        if "int8" in config.precisions:
            graphs["int8"], gpu_graphs["int8"], choice = exporter.int8(
                graphs["fp32"], for_int8, [clip for _, clip in clips], calibration, trials
            )
            facts["int8"] = choice.to_json()
        del for_int8  # 0.4 GB of paper
        loaded = sum(len(graphs["fp32"][graph]) for graph in ("init", "step"))
        at_once, threads = engines_at_once(loaded)
        loaders = [
            partial(trials.variants, graphs[precision], precision, name, threads)
            for precision in config.precisions
            for name in _engines_of_processors()
        ]
        if gpu_graphs:
            gpu = partial(trials.variants, gpu_graphs["int8"], GPU_INT8, ONNX_RUNTIME, threads)
            loaders.append(gpu)
        reports = []
        for index, (source, clip) in enumerate(clips):
            log(f"following {config.frames} frames of {source} as PyTorch does")
            report = measure_drift(
                network,
                loaders,
                clip,
                source=source,
                frames=config.frames,
                frames_per_call=sorted({1, config.frames_per_call}),
                at_once=at_once,
                progress=lambda done, before=index * config.frames: progress(before + done),  # type: ignore[misc]
            )
            reports.append(report)
    failures = [failure for report in reports for failure in report.verdict(config.budget)]
    if failures and not config.accept_drift:
        raise DriftError("; ".join(map(str, failures)), "lower the budget or accept the drift")
    models, gpu_models = share_weights({one: graphs[one] for one in config.precisions}, gpu_graphs)
    write_bundle(
        out,
        contract=network.contract,
        graphs=models,
        gpu_graphs=gpu_models,
        facts={**facts, "parity": parity(reports)},
        others={DRIFT: write_drift(reports)},
    )
    return reports


def sizes(bundle: Bundle) -> dict[str, int]:
    """Return the bytes of a bundle with the graphs of each precision alone."""
    manifest = bundle.manifest
    found = {}
    for precision, graphs in manifest.graphs.items():
        members = {piece for member in graphs.values() for piece in manifest.pieces(member)}
        found[precision] = sum(len(bundle.read(member)) for member in members)
    return found


def _engines_of_processors() -> list[str]:
    """Return the names of the engines that prove the graphs here, fastest first.

    Those of the GPU are s2svos doctor's to prove; PyTorch is what all are compared with.
    """
    return [name for name in installed_engines() if name not in (*GPU_ENGINES, *SLOW_ENGINES)]


class _TrialEngines:
    """Engines with graphs that are in no bundle yet: one is written for each, and removed.

    Args:
        contract: of the graphs.
        folder: for the bundles.
    """

    def __init__(self, contract: StepContract, folder: Path) -> None:
        self._contract, self._folder = contract, folder

    def load(
        self, graphs: Graphs, precision: str, *, name: str = AUTO, threads: int | None = None
    ) -> Engine:
        """Return an engine with the graphs, which it has read then.

        Raises:
            UserError: the temporary folder cannot be written.
        """
        with self._bundle(graphs, precision) as bundle:
            return load_engine(bundle, name, precision=precision, threads=threads)

    def variants(self, graphs: Graphs, precision: str, name: str, threads: int) -> list[Engine]:
        """Return an engine with the graphs in each arithmetic that it may choose.

        Raises:
            UserError: the temporary folder cannot be written.
        """
        with self._bundle(graphs, precision) as bundle:
            return engine_variants(bundle, name, precision=precision, threads=threads)

    @contextmanager
    def _bundle(self, graphs: Graphs, precision: str) -> Iterator[Bundle]:
        with (
            temporary_folder_errors(),
            tempfile.NamedTemporaryFile(dir=self._folder, suffix=".s2s", delete=False) as file,
        ):
            path = Path(file.name)
        with temporary_folder_errors():
            write_bundle(path, contract=self._contract, graphs={precision: graphs}, facts={})
        yield Bundle.open(path, lasting=False)
        path.unlink()


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

    def floating_point(self, executor: Executor | None) -> tuple[dict[str, Graphs], Graphs]:
        """Export all graphs in floating point.

        Args:
            executor: another process to share them with.

        Returns:
            Those in fp32 and, if it is wanted, in fp16; and the step graphs that int8 is made of.
        """
        precisions: tuple[str, ...] = (
            ("fp32", "fp16") if "fp16" in self._config.precisions else ("fp32",)
        )
        steps = self._config.step_graphs
        tasks = {
            (graph, precisions): self._task(self._network, graph, precisions)
            for graph in ("init", *steps)
        }
        module = cast(nn.Module, self._network)
        transposed = any(isinstance(one, nn.ConvTranspose2d) for one in module.modules())
        if transposed and "int8" in self._config.precisions:
            # ONNX Runtime has no int8 transposed convolution; in floating point convolutions of
            # sub-pixels take as long.
            plain = cast(Network, with_sub_pixels(module))
            tasks |= {(graph, ("int8",)): self._task(plain, graph, ("fp32",)) for graph in steps}
        models = self._run(tasks, executor)
        graphs: dict[str, Graphs] = {
            precision: {graph: models[graph, precisions][precision] for graph in ("init", *steps)}
            for precision in precisions
        }
        return graphs, {
            graph: models.get((graph, ("int8",)), models[graph, precisions])["fp32"]
            for graph in steps
        }

    def int8(
        self,
        fp32: Graphs,
        exact: Graphs,
        clips: Sequence[Clip],
        calibration: Sequence[Clip],
        trials: _TrialEngines,
    ) -> tuple[Graphs, Graphs, Int8Choice]:
        """Return all graphs in int8, for a processor and for a GPU, and what of them is.

        Args:
            fp32: all graphs.
            exact: the step graphs to quantise.
            clips: to follow.
            calibration: clips by which it is set.
            trials: for engines.
        """
        config = self._config
        init = {"init": fp32["init"]}  # in int8 it was no faster: 11 ms, as in bf16
        self._log("choosing what int8 takes")
        references, calibrated = self._followed(fp32, exact["step"], clips, calibration, trials)

        def load(form: _Form, name: str, weights: frozenset[str], threads: int | None) -> Engine:
            step = form(exact["step"], calibrated, weights)
            return trials.load({**init, "step": step}, "int8", name=name, threads=threads)

        loaders = [partial(load, quantise, name) for name in _engines_of_processors()]
        loaders.append(partial(load, quantise_for_gpu, ONNX_RUNTIME))
        search = Int8Search(
            exact["step"],
            calibrated,
            loaders,
            partial(load, quantise, ONNX_RUNTIME),
            references,
            parts=config.int8_parts,
            quick_frames=max(1, config.frames // 12),
        )
        # More than the budget: the same clip may lose 0.002 more the next time, and where one clip
        # stands for all, ten objects lose 0.004 more than two (koi 0.981, a video 0.985).
        margin = 0.15 if len(clips) == 1 else 0.05
        choice = search.run(config.budget + margin * (1 - config.budget))
        taken, every = len(choice.weights), len(choice.weights) + len(choice.kept_fp32)
        self._log(f"int8 takes {taken} of {every} convolutions, IoU with fp32 {choice.iou:.4f}")
        for_all, for_gpu = (
            init
            | {
                graph: self._int8_graph(graph, form(model, calibrated, choice.weights))
                for graph, model in exact.items()
            }
            for form in (quantise, quantise_for_gpu)
        )
        return for_all, for_gpu, choice

    def _followed(
        self,
        fp32: Graphs,
        step: bytes,
        clips: Sequence[Clip],
        calibration: Sequence[Clip],
        trials: _TrialEngines,
    ) -> tuple[list[ReferenceRun], dict[str, Calibrated]]:
        """Follow clips in fp32: those that int8 is compared on, and those that it is set by."""
        # Of two engines that take as long, the one of 0.4 GB less.
        engine = trials.load(fp32, "fp32", name=ONNX_RUNTIME)
        with ThreadPoolExecutor(1) as beside:
            run = partial(ReferenceRun, engine, frames=self._config.frames)
            following = beside.map(run, clips)
            samples = calibration_samples(engine, calibration)
            references = list(following)
        del engine  # while calibrating paper there were 6.6 GB with it, 4.7 without
        return references, calibrate(step, samples)

    def _int8_graph(self, graph: str, quantised: bytes) -> bytes:
        model = onnx.load_model_from_string(quantised)
        title = self._title(graph, "int8")
        describe(model, self._network.contract, graph, title=title, precision="int8")
        serialised: bytes = model.SerializeToString()
        return serialised

    def _task(self, network: Network, graph: str, precisions: Iterable[str]) -> _Task:
        return partial(
            export_graph,
            network,
            graph,
            titles={precision: self._title(graph, precision) for precision in precisions},
            max_objects=self._config.max_objects,
        )

    def _run(
        self, tasks: Mapping[_Key, _Task], executor: Executor | None
    ) -> dict[_Key, dict[str, bytes]]:
        """Export graphs: here from the first on, and in the other process from the last."""
        left, exported = deque(tasks), {}

        def run(take: Callable[[], _Key], call: Callable[[_Key], dict[str, bytes]]) -> None:
            while True:
                try:
                    key = take()
                except IndexError:  # none is left
                    return
                graph, purposes = key
                self._log(f"exporting {graph} for {' and '.join(purposes)}")
                exported[key] = call(key)

        # Of networks of its own: one cannot be pickled for it while it is traced here.
        tasks_there = copy.deepcopy(dict(tasks)) if executor else {}
        thread = ThreadPoolExecutor(1)
        try:
            other = executor and thread.submit(
                run, left.pop, lambda key: executor.submit(tasks_there[key]).result()
            )
            run(left.popleft, lambda key: tasks[key]())
            if other:
                other.result()
        finally:  # at once if this was stopped: the other process is ended then
            left.clear()
            thread.shutdown(wait=False)
        return exported

    def _title(self, graph: str, precision: str) -> str:
        return f"s2svos_{self._name}_{graph}_{precision}"
