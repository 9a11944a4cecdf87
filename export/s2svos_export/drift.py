"""How far a bundle's graphs drift from the network in PyTorch, fp32: the report as data.

:func:`s2svos_export.drift_measure.measure_drift` makes it. Two kinds of error are told apart: the
free-running engine goes on from its own state, so that errors are carried on from frame to frame;
the teacher-forced one starts every call from the reference's state, so that only the error of that
one call is seen.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from s2svos_engines.bundle import Bundle
from s2svos_engines.manifest import BUDGET

DRIFT = "drift.json"
"""The member of a bundle that holds its drift reports."""

EXACT = 0.999
"""Least mean IoU of fp32, whose graphs compute what PyTorch computes."""


@dataclass(frozen=True)
class TensorErrors:
    """Errors of one tensor over the calls, in units of the reference's RMS over the clip.

    Args:
        max: largest absolute error in each call; infinite where a number is not finite.
        rms: root mean square error in each call, likewise.
    """

    max: tuple[float, ...]
    rms: tuple[float, ...]

    @property
    def largest(self) -> float:
        """The largest error of all calls."""
        return max(self.max)

    @property
    def overall(self) -> float:
        """Root mean square error over all calls."""
        return math.sqrt(sum(rms**2 for rms in self.rms) / len(self.rms))


@dataclass(frozen=True)
class Errors:
    """Errors of a step graph's outputs over the calls.

    Args:
        frames: index of the last frame of each call; the clip's first frame is 0.
        iou: [calls][objects], mean over the call's frames.
        tensors: by name: ``object_masks``, and the states by the contract's names.
    """

    frames: tuple[int, ...]
    iou: tuple[tuple[float, ...], ...]
    tensors: Mapping[str, TensorErrors]


@dataclass(frozen=True)
class WorstCall:
    """The call with the largest error of its own, before any error is carried on.

    Args:
        graph: ``init``, or the step graph.
        tensor: name of the output.
        frame: index of the frame.
        rms: root mean square error in units of the tensor's RMS.
    """

    graph: str
    tensor: str
    frame: int
    rms: float


@dataclass(frozen=True)
class Drift:
    """The drift of one engine in one precision.

    Args:
        engine: its name.
        precision: of the graphs.
        graph: the step graph that was called, ``step`` or ``stepT``.
        iou: [frames][objects], of the thresholded masks of frames 1, 2, ..., free-running; two
            empty masks have 1.
        init: errors of the states that the ``init`` graph makes, on frame 0.
        free_running: errors of every call.
        teacher_forced: errors of some of the calls, each from the reference's state.
    """

    engine: str
    precision: str
    graph: str
    iou: tuple[tuple[float, ...], ...]
    init: Mapping[str, TensorErrors]
    free_running: Errors
    teacher_forced: Errors

    @property
    def label(self) -> str:
        """Precision, engine and, if it takes several frames a call, graph."""
        several = "" if self.graph == "step" else f" {self.graph}"
        return f"{self.precision} {self.engine}{several}"

    @property
    def mean_iou(self) -> float:
        """Mean over frames and objects."""
        return float(np.mean(self.iou))

    @property
    def worst_iou(self) -> float:
        """The least IoU of one object on one frame."""
        return float(np.min(self.iou))

    @property
    def worst_frame(self) -> int:
        """The frame with that IoU."""
        return 1 + int(np.argmin(np.min(self.iou, axis=1)))

    def first_below(self, threshold: float) -> tuple[int, int] | None:
        """Return the first frame on which an object's IoU is less, and the object's index."""
        for frame, row in enumerate(self.iou, 1):
            if min(row) < threshold:
                return frame, int(np.argmin(row))
        return None

    @property
    def worst_call(self) -> WorstCall:
        """The single call, teacher-forced or of ``init``, with the largest error."""
        calls = [WorstCall("init", name, 0, one.rms[0]) for name, one in self.init.items()]
        for name, one in self.teacher_forced.tensors.items():
            index = int(np.argmax(one.rms))
            frame = self.teacher_forced.frames[index]
            calls.append(WorstCall(self.graph, name, frame, one.rms[index]))
        return max(calls, key=lambda call: call.rms)


@dataclass(frozen=True)
class Failure:
    """A precision on an engine that drifts more than the budget allows; its text is a sentence.

    Args:
        label: of the :class:`Drift`.
        source: name of the clip.
        frames: how many were compared.
        mean_iou: over frames and objects.
        least_iou: what the budget asks for.
        threshold: IoU below which an object counts as lost.
        first_below: first frame on which an object's IoU is below the threshold; None if none is.
        lost: id of that object.
        worst_iou: of one object on one frame.
        worst_frame: the frame with that IoU.
        worst_call: the single call with the largest error.
    """

    label: str
    source: str
    frames: int
    mean_iou: float
    least_iou: float
    threshold: float
    first_below: int | None
    lost: int | None
    worst_iou: float
    worst_frame: int
    worst_call: WorstCall

    def __str__(self) -> str:
        call = self.worst_call
        below = f"no object falls below {self.threshold:g}"
        if self.first_below is not None:
            below = f"object {self.lost} falls below {self.threshold:g} on frame {self.first_below}"
        return (
            f"{self.label} has mean IoU {self.mean_iou:.4f} with PyTorch over {self.frames} "
            f"frames of {self.source}, less than {self.least_iou:g}: {below}, the worst is "
            f"{self.worst_iou:.3f} on frame {self.worst_frame}, and of all tensors {call.tensor} "
            f"errs most in one call, by {100 * call.rms:.2g} % of its RMS ({call.graph}, frame "
            f"{call.frame})"
        )


@dataclass(frozen=True)
class DriftReport:
    """Closed-loop comparison with the network in PyTorch over a clip.

    Args:
        source: name of the clip.
        frames: how many were followed, the first not counted.
        objects: their ids.
        threshold: IoU below which an object counts as lost.
        seen: share of frames and objects with a pixel in the reference's mask; IoU says nothing
            if this is small.
        scale: RMS of the reference's tensors over the clip, the unit of their errors.
        drifts: one for each precision, engine and step graph.
    """

    source: str
    frames: int
    objects: tuple[int, ...]
    threshold: float
    seen: float
    scale: Mapping[str, float]
    drifts: tuple[Drift, ...]

    def verdict(self, budget: float = BUDGET) -> list[Failure]:
        """Return what drifts too far.

        Args:
            budget: least mean IoU; for fp32 at least :data:`EXACT`.
        """
        failures = []
        for drift in self.drifts:
            least = max(budget, EXACT) if drift.precision == "fp32" else budget
            if drift.mean_iou >= least:
                continue
            frame, lost = drift.first_below(self.threshold) or (None, None)
            failures.append(
                Failure(
                    label=drift.label,
                    source=self.source,
                    frames=self.frames,
                    mean_iou=drift.mean_iou,
                    least_iou=least,
                    threshold=self.threshold,
                    first_below=frame,
                    lost=None if lost is None else self.objects[lost],
                    worst_iou=drift.worst_iou,
                    worst_frame=drift.worst_frame,
                    worst_call=drift.worst_call,
                )
            )
        return failures

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON types; what is infinite becomes null."""
        data = asdict(self)
        for drift in data["drifts"]:
            drift["free"] = drift.pop("free_running")
            drift["forced"] = drift.pop("teacher_forced")
        report: dict[str, Any] = _to_null(data)
        return report

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> DriftReport:
        """Read what :meth:`to_json` returned.

        Raises:
            KeyError, TypeError: ``data`` is not such a report.
        """
        fields = dict(data)
        fields["objects"] = tuple(data["objects"])
        fields["drifts"] = tuple(
            Drift(
                engine=one["engine"],
                precision=one["precision"],
                graph=one["graph"],
                iou=_table(one["iou"]),
                init=_tensors(one["init"]),
                free_running=_errors(one["free"]),
                teacher_forced=_errors(one["forced"]),
            )
            for one in data["drifts"]
        )
        return cls(**fields)


def parity(reports: Sequence[DriftReport]) -> dict[str, dict[str, Any]]:
    """Return the manifest's ``parity``: for each precision the worst engine on the worst clip.

    ``engines`` are all that were measured, with arithmetic other than the usual in their names.
    """
    measured = [(report, drift) for report in reports for drift in report.drifts]
    worst: dict[str, tuple[DriftReport, Drift]] = {}
    for report, drift in sorted(measured, key=lambda one: one[1].mean_iou):
        worst.setdefault(drift.precision, (report, drift))
    return {
        precision: {
            "clip": report.source,
            "frames": report.frames,
            "mean_iou": round(drift.mean_iou, 6),
            "worst_iou": drift.worst_iou,
            "worst_frame": drift.worst_frame,
            "state_error": {
                name: _to_null(drift.free_running.tensors[name].largest) for name in drift.init
            },
            "engine": drift.engine,
            "engines": sorted({one.engine for _, one in measured if one.precision == precision}),
        }
        for precision, (report, drift) in sorted(worst.items())
    }


def write_drift(reports: Sequence[DriftReport]) -> bytes:
    """Return the reports, one for each clip, as :data:`DRIFT` holds them."""
    return json.dumps([report.to_json() for report in reports]).encode()


def read_drift(bundle: Bundle) -> tuple[DriftReport, ...]:
    """Return a bundle's drift reports, one for each clip; none if it has none."""
    if DRIFT not in bundle.manifest.members:
        return ()
    data = json.loads(bundle.read(DRIFT))
    # A bundle of before there could be several has one by itself.
    return tuple(map(DriftReport.from_json, data if isinstance(data, list) else [data]))


def _to_null(value: Any) -> Any:
    """Return JSON types without infinite numbers, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _to_null(one) for key, one in value.items()}
    if isinstance(value, tuple | list):
        return [_to_null(one) for one in value]
    return None if isinstance(value, float) and math.isinf(value) else value


def _errors(data: Mapping[str, Any]) -> Errors:
    return Errors(tuple(data["frames"]), _table(data["iou"]), _tensors(data["tensors"]))


def _table(rows: Sequence[Sequence[float]]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in rows)


def _tensors(data: Mapping[str, Mapping[str, Sequence[float | None]]]) -> dict[str, TensorErrors]:
    def numbers(values: Sequence[float | None]) -> tuple[float, ...]:
        return tuple(math.inf if value is None else value for value in values)

    return {k: TensorErrors(numbers(v["max"]), numbers(v["rms"])) for k, v in data.items()}
