"""Accuracy and time of each precision, on every engine of the processor.

python -m benchmarks.precision my.s2s VIDEO --mask FIRST.png --checkpoint run/final.pt
Steps are timed in rounds and compared within each round, so that a busy machine is busy for all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.report import append_json, print_table, run_script

if TYPE_CHECKING:
    from torch import Tensor

    from s2svos.video.masks import FirstMask
    from s2svos.video.reader import Video
    from s2svos_engines.arrays import Frame, Masks
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.engine import Engine
    from s2svos_export.drift import Drift, DriftReport, TensorErrors
    from s2svos_export.graphs import Network

PYTORCH = "PyTorch eager"
BASE = "fp32 onnxruntime"  # ratios are to this and to PyTorch


def main(
    bundle: Annotated[Path, typer.Argument(help="NAME.s2s, in the precisions to compare.")],
    video: Annotated[Path, typer.Argument(help="The video.")],
    mask: Annotated[Path, typer.Option(help="Mask of its first frame.")],
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="That the bundle was made from; default: its fp32 graphs in PyTorch."),
    ] = None,
    frames: Annotated[
        int, typer.Option(min=0, help="To follow beside PyTorch, back and forth; 0: none.")
    ] = 300,
    forced_every: Annotated[
        int, typer.Option(min=1, help="Frames from one teacher-forced step to the next.")
    ] = 10,
    rounds: Annotated[int, typer.Option(min=0, help="Steps to time of each; 0: none.")] = 30,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of a timed step; default: one a core.")
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Follow a clip in every precision beside PyTorch in fp32; then time a step of one object."""
    from s2svos.extras import needs
    from s2svos.video.masks import read_first_mask
    from s2svos.video.reader import Video
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.cpu import cpu_count

    opened = Bundle.open(bundle)
    source = Video(video)
    first = read_first_mask(mask, size=(source.height, source.width))
    with needs("train"):
        import torch

        network = _network(opened, checkpoint)
    results: dict[str, Any] = {
        "bundle": opened.sha256,
        "preset": opened.manifest.preset,
        "reference": "checkpoint" if checkpoint else "graphs in PyTorch",
        "torch": str(torch.__version__),
        "video": source.path.name,
    }
    if frames:
        report = _drift(network, opened, source, first, frames, forced_every)
        results |= {
            "frames": report.frames,
            "objects": len(report.objects),
            "seen": report.seen,
            "threshold": report.threshold,
            "drift": [_summary(drift, report) for drift in report.drifts],
        }
    if rounds:
        threads = threads or cpu_count()
        samples = _times(network, opened, source, first, rounds, threads)
        results |= {"rounds": rounds, "threads": threads, "steps": _compared(samples)}
        results["milliseconds"] = samples
    if json:
        append_json(json, "precision", results)


def _network(bundle: Bundle, checkpoint: Path | None) -> Network:
    """Return the network in PyTorch, at the bundle's size."""
    if checkpoint is None:
        return _BundleNetwork(bundle)
    from s2svos.network.checkpoint import load_network

    contract = bundle.contract
    return load_network(checkpoint, size=(contract.height, contract.width))


class _BundleNetwork:
    """A bundle's network in PyTorch, node by node.

    Args:
        bundle: with fp32 graphs.

    Attributes:
        contract: of the graphs.
    """

    def __init__(self, bundle: Bundle) -> None:
        import onnx

        from s2svos_engines.onnx_torch.graph import Graph

        self.contract = bundle.contract
        self._graphs = {
            name: Graph(name, onnx.load_from_string(bundle.graph(name)))
            for name in ("init", "step")
        }

    def init(self, frame: Tensor, first_masks: Tensor) -> tuple[Tensor, ...]:
        """Run the ``init`` graph: uint8 [H, W, 3] and uint8 [N, H, W] to the states."""
        return self._run("init", frame, first_masks)

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Run the ``step`` graph: uint8 [H, W, 3] and states to uint8 [N, H, W] and states."""
        return self._run("step", frame, *states)

    def _run(self, name: str, *inputs: Tensor) -> tuple[Tensor, ...]:
        import torch

        graph, interface = self._graphs[name], self.contract.interface(name)
        values = dict(graph.constants_on(torch.device("cpu")))
        values.update({spec.name: x for spec, x in zip(interface.inputs, inputs, strict=True)})
        return tuple(graph.run(values, [spec.name for spec in interface.outputs]))


def _engines(bundle: Bundle, threads: int) -> Iterator[Engine]:
    """Yield engines of every precision on the processor, with OpenVINO's bfloat16 if it has it."""
    from s2svos_engines.registry import GPU_ENGINES, SLOW_ENGINES, installed_engines, load_engine

    for name in installed_engines():
        if name in (*GPU_ENGINES, *SLOW_ENGINES):  # PyTorch is there already
            continue
        for precision in bundle.precisions:
            yield load_engine(bundle, name, precision=precision, threads=threads)
        if name == "openvino" and "fp32" in bundle.precisions:
            from s2svos_engines.backends.openvino import OpenVinoEngine
            from s2svos_engines.backends.openvino_graphs import has_bf16

            if has_bf16():
                yield OpenVinoEngine(bundle, threads=threads, arithmetic="bf16")


def _drift(
    network: Network,
    bundle: Bundle,
    video: Video,
    first: FirstMask,
    frames: int,
    forced_every: int,
) -> DriftReport:
    from s2svos.commands.terminal import counting_progress
    from s2svos_engines.cpu import cpu_count
    from s2svos_export.drift_measure import measure_drift
    from s2svos_export.drift_report import print_drift

    with counting_progress("frames", total=frames) as update:
        report = measure_drift(
            network,
            [partial(list, [engine]) for engine in _engines(bundle, 1)],
            ((frame, first.ids) for _, frame in video),
            source=video.path.name,
            frames=frames,
            frames_per_call=bundle.frames_per_call(bundle.precisions[0]),
            forced_every=forced_every,
            at_once=cpu_count(),
            progress=lambda frame: update(completed=frame),
        )
    print_drift(report)
    return report


def _summary(drift: Drift, report: DriftReport) -> dict[str, Any]:
    below = drift.first_below(report.threshold)
    kinds = {"free": drift.free_running, "forced": drift.teacher_forced}

    def figures(one: TensorErrors) -> list[float]:
        return [float(f"{value:.4g}") for value in (one.overall, one.largest)]

    return {
        "precision": drift.precision,
        "engine": drift.engine,
        "graph": drift.graph,
        "mean_iou": round(drift.mean_iou, 6),
        "worst_iou": drift.worst_iou,
        "worst_frame": drift.worst_frame,
        "first_below": below[0] if below else None,
        "errors": {  # RMS and largest, in units of the tensor's RMS
            kind: {name: figures(one) for name, one in errors.tensors.items()}
            for kind, errors in kinds.items()
        },
    }


def _times(
    network: Network,
    bundle: Bundle,
    video: Video,
    first: FirstMask,
    rounds: int,
    threads: int,
) -> dict[str, list[float]]:
    """Return milliseconds of a step of the first object on the first frame, for each variant."""
    import torch

    from s2svos_engines.closed_loop import NetworkClip

    clip = NetworkClip.of(((frame, first.ids) for _, frame in video), bundle.contract)
    frame, masks = clip.first, clip.first_masks[:1]
    torch.set_num_threads(threads)
    steps: dict[str, Callable[[Frame], object]] = {}
    steps[PYTORCH] = _pytorch(network, frame, masks)
    for engine in _engines(bundle, threads):
        runner = engine.runner(engine.init(frame, masks))
        steps[f"{engine.precision} {engine.title}"] = runner.step
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + 2):
        for name, step in steps.items():
            # The threads of PyTorch and of ONNX Runtime spin for a while after a step and would
            # slow the next one's.
            step(frame)
            began = time.perf_counter()
            step(frame)
            if index >= 2:  # the first steps allocate
                samples[name].append(round(1000 * (time.perf_counter() - began), 3))
    return samples


def _pytorch(network: Network, frame: Frame, masks: Masks) -> Callable[[Frame], object]:
    import torch

    with torch.inference_mode():
        states = network.init(torch.from_numpy(frame), torch.from_numpy(masks))

    def step(frame: Frame) -> None:
        nonlocal states
        with torch.inference_mode():
            _, *states = network.step(torch.from_numpy(frame), *states)  # type: ignore[assignment]

    return step


def _compared(samples: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Print and return medians, and the median ratio of the rounds."""
    bases = [name for name in (PYTORCH, BASE) if name in samples]
    found = {
        name: {
            "milliseconds": statistics.median(values),
            **{f"to {base}": _ratio(values, samples[base]) for base in bases},
        }
        for name, values in samples.items()
    }
    rows = [
        [name, f"{row['milliseconds']:.1f}", *(f"{row[f'to {base}']:.3f}" for base in bases)]
        for name, row in found.items()
    ]
    count = len(samples[PYTORCH])
    title = f"step of one object, medians of {count} rounds"
    print_table(title, ["", "ms", *(f"to {base}" for base in bases)], rows)
    return found


def _ratio(values: Sequence[float], base: Sequence[float]) -> float:
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


if __name__ == "__main__":
    run_script(main)
