"""Runs every engine that is here over the drawn clip, in every precision of a bundle.

The reference is ONNX Runtime in fp32, whose graphs the export has compared with PyTorch; where that
does not work, the first engine that works in fp32. The true masks of the drawn clip are a second
measure, one that depends on no engine.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import packages_distributions
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2svos.doctor.finding import Finding, State
from s2svos.doctor.self_test import Result
from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle
from s2svos_engines.closed_loop import mask_iou, ping_pong
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import Letterbox, object_masks
from s2svos_engines.registry import ENGINES, GPU_ENGINES, SLOW_ENGINES, installed_engines
from s2svos_engines.tensorrt.builder import build_target

REFERENCE = "onnxruntime"
STEPS, GPU_STEPS = 10, 300
PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "max": 100}  # of a step's time
SECONDS, GPU_SECONDS = 300, 1800  # until a test is given up; building a plan takes minutes

SLACK = 0.02
"""How much less IoU than the export measured is put down to another processor."""

UNKNOWN = 0.98
"""IoU of a precision for which the bundle does not say what the export measured."""

Masks = NDArray[np.uint8]  # [steps, N, H, W]


@dataclass(frozen=True)
class Trial:
    """An engine in a precision, and how many frames it is to follow."""

    engine: str
    precision: str
    steps: int

    @property
    def name(self) -> str:
        """Engine and precision, for the user."""
        return f"{self.engine} {self.precision}"


@dataclass(frozen=True)
class Failure:
    """A trial that did not come to its end."""

    text: str
    remedy: str


def examine_engines(
    bundle: Bundle, *, gpu: str | None, log: Callable[[str], None]
) -> Iterator[Finding]:
    """Yield a finding for each engine and precision.

    Args:
        bundle: whose graphs are run.
        gpu: compute capability of the GPU, empty if it is not known; None if there is no GPU.
        log: is called with what is being tested.
    """
    # PyTorch would take minutes, and is what all were compared with at export.
    installed = [name for name in installed_engines() if name not in SLOW_ENGINES]
    on_processor = [name for name in installed if name not in GPU_ENGINES]
    on_gpu = [name for name in installed if name in GPU_ENGINES and _serves(name, gpu)]
    for name in [name for name in ENGINES if name not in SLOW_ENGINES]:
        if name not in installed:
            remedy = f'pip install "s2svos[{ENGINES[name].extra}]"'
            yield Finding(name, State.INFO, "not installed", remedy)
        elif name not in (*on_processor, *on_gpu):
            lacks = f"it does not serve compute capability {gpu}" if gpu else "no GPU is here"
            yield Finding(name, State.INFO, f"installed, but not tested: {lacks}")
    if not on_processor:
        remedy = 'pip install "s2svos[cpu]"'
        yield Finding("engines", State.PROBLEM, "none for the processor is installed", remedy)
    if gpu is not None and not on_gpu:
        remedy = 'pip install "s2svos[tensorrt]"'
        yield Finding("engines", State.PROBLEM, "none for the GPU is installed", remedy)
    if trials := _trials(bundle, on_processor, on_gpu):
        yield from _run(bundle, trials, log)


def _serves(engine: str, gpu: str | None) -> bool:
    """Return whether there is a GPU for an engine; TensorRT-RTX has kernels for some only."""
    if not gpu or engine != "tensorrt-rtx":
        return gpu is not None
    try:
        return gpu in build_target(engine).compute_capabilities
    except UserError:
        return True  # it is broken, which the self-test tells


def _trials(bundle: Bundle, on_processor: list[str], on_gpu: list[str]) -> list[Trial]:
    """Return what is run; first what can be the reference, for as long as the longest."""
    most = GPU_STEPS if on_gpu else STEPS
    trials = [
        Trial(name, precision, most if precision == "fp32" else STEPS)
        for name in on_processor
        for precision in bundle.precisions
    ]
    trials.sort(key=lambda trial: (trial.precision != "fp32", trial.engine != REFERENCE))
    return trials + [Trial(name, one, GPU_STEPS) for name in on_gpu for one in bundle.precisions]


def _run(bundle: Bundle, trials: list[Trial], log: Callable[[str], None]) -> Iterator[Finding]:
    reference: tuple[str, Masks] | None = None
    with tempfile.TemporaryDirectory(prefix="s2svos-") as folder:
        runner = TrialRunner(bundle, Path(folder), max(trial.steps for trial in trials))
        for number, trial in enumerate(trials, 1):
            log(f"testing {trial.name} ({number} of {len(trials)})")
            outcome = runner.run(trial)
            if isinstance(outcome, Failure):
                yield Finding(trial.name, State.PROBLEM, outcome.text, outcome.remedy)
                continue
            if not reference and trial.precision == "fp32":
                reference = trial.name, outcome.masks
            yield runner.compare(trial, outcome, reference)


class TrialRunner:
    """The drawn clip in a file, on which engines are run and compared.

    Args:
        bundle: with the network.
        folder: for files.
        steps: of the longest trial.
    """

    def __init__(self, bundle: Bundle, folder: Path, steps: int) -> None:
        contract = bundle.contract
        clip = list(islice(render(), steps + 1))
        resize = Letterbox.of(clip[0][1].shape, (contract.height, contract.width)).resize
        frames = np.stack([resize(frame) for frame, _ in clip])
        masks = np.stack([[*map(resize, object_masks(ids, (1, 2)))] for _, ids in clip])
        self._bundle, self._folder = bundle, folder
        self._clip = folder / "clip.npz"
        np.savez(self._clip, frames=frames, first_masks=masks[0])
        self._truth: Masks = np.stack([*islice(ping_pong(masks), 1, steps + 1)])

    def run(self, trial: Trial) -> Result | Failure:
        """Run a trial in a process of its own."""
        out = self._folder / f"{trial.engine}-{trial.precision}.npz"
        # -P: whatever Python files lie in the working folder are no part of this.
        command = [sys.executable, "-P", "-m", "s2svos.doctor.self_test", str(self._bundle.path)]
        command += [trial.engine, trial.precision, str(self._clip), str(trial.steps), str(out)]
        limit = GPU_SECONDS if trial.engine in GPU_ENGINES else SECONDS
        # With a cache of its own, in which there is no plan yet: building is part of the proof.
        here = {**os.environ, "XDG_CACHE_HOME": str(self._folder)}
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=limit, env=here)
        except subprocess.TimeoutExpired:
            text = f"{trial.steps} frames took more than {limit} s"
            return Failure(text, "See what else the machine is doing, and run s2svos doctor again.")
        if run.returncode:
            return _failure(trial, run)
        with np.load(out) as arrays:
            return Result(arrays["masks"], arrays["milliseconds"], float(arrays["seconds"]))

    def compare(self, trial: Trial, result: Result, reference: tuple[str, Masks] | None) -> Finding:
        """Compare a trial's masks with those of the reference and with the truth.

        Args:
            trial: that was run.
            result: of it.
            reference: its name and its masks, of as many steps or more; None if there is none.
        """
        truth = float(mask_iou(result.masks, self._truth[: trial.steps]).mean())
        times = {
            name: float(np.percentile(result.milliseconds, share))
            for name, share in PERCENTILES.items()
        }
        text = (
            f"IoU {truth:.3f} with the true masks; "
            f"{', '.join(f'{time:.1f}' for time in times.values())} ms a step "
            f"({', '.join(times)}), ready after {result.seconds:.1f} s"
        )
        figures = {
            "frames": trial.steps,
            "iou_with_truth": truth,
            "milliseconds": times,
            "seconds_to_start": result.seconds,
        }
        if not reference:
            text = f"{trial.steps} frames, with nothing to compare with in fp32; {text}"
            remedy = "Mend an engine that runs fp32 first."
            return Finding(trial.name, State.PROBLEM, text, remedy, figures)
        name, expected = reference
        if name == trial.name:
            text = f"{trial.steps} frames, the reference{self._recorded()}; {text}"
            return Finding(trial.name, State.OK, text, figures=figures)
        drift = _Drift.of(mask_iou(result.masks, expected[: trial.steps]).mean(1))
        text = f"{trial.steps} frames, {drift} with {name}; {text}"
        figures |= {"reference": name, **asdict(drift)}
        least = self._least(trial.precision)
        if drift.mean >= least:
            return Finding(trial.name, State.OK, text, figures=figures)
        text = f"its masks are wrong here, less than IoU {least:.3f}: {text}"
        remedy = "Choose another --engine or --precision, and report what --json prints."
        return Finding(trial.name, State.PROBLEM, text, remedy, figures)

    def _recorded(self) -> str:
        iou = self._bundle.manifest.mean_iou("fp32")
        return f" (IoU {iou:.4f} with PyTorch at export)" if iou is not None else ""

    def _least(self, precision: str) -> float:
        recorded = self._bundle.manifest.mean_iou(precision)
        return (UNKNOWN if recorded is None else recorded) - SLACK


@dataclass(frozen=True)
class _Drift:
    """IoU with the reference: mean, least with its frame, and on some frames."""

    mean: float
    least: float
    least_frame: int
    course: Mapping[int, float]

    @classmethod
    def of(cls, iou: NDArray[np.float64]) -> _Drift:
        course = {frame: float(iou[frame - 1]) for frame in (1, 10, 100, 300) if frame <= len(iou)}
        return cls(float(iou.mean()), float(iou.min()), 1 + int(iou.argmin()), course)

    def __str__(self) -> str:
        course = ", ".join(f"{value:.4f} on frame {frame}" for frame, value in self.course.items())
        least = f"least {self.least:.4f} on frame {self.least_frame}"
        return f"IoU {self.mean:.4f} ({course}; {least})"


def _failure(trial: Trial, run: subprocess.CompletedProcess[str]) -> Failure:
    """Return what ended a self-test, and what to do."""
    again = _remedy(trial.engine)
    if run.returncode == UserError.exit_code:
        error = json.loads(run.stdout)
        return Failure(error["problem"], error["remedy"] or again)
    if run.returncode < 0:
        name = signal.Signals(-run.returncode).name
        if name == "SIGILL":
            again = "The processor lacks instructions that the package needs; use another engine."
        return Failure(f"crashed with {name}", again)
    lines = run.stderr.strip().splitlines()
    return Failure(f"failed: {lines[-1] if lines else f'exit code {run.returncode}'}", again)


def _remedy(engine: str) -> str:
    """Return the command that installs an engine again if it is broken."""
    if engine in GPU_ENGINES:
        return f'pip install "s2svos[{ENGINES[engine].extra}]"'
    package = (packages_distributions().get(engine) or [engine])[0]
    return f'pip install --force-reinstall "{package}"'
