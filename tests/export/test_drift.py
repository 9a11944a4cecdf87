"""Drift: what is measured, what is found, what is reported."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from PIL import Image
from rich.console import Console
from small_graphs import small_contract, small_graph, small_network

from s2svos.sample.render import render
from s2svos_engines.arrays import Frame, Labels, Masks
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.engine import Engine, Runner
from s2svos_engines.registry import engine_variants
from s2svos_export.drift import DRIFT, DriftReport, Failure, parity, read_drift, write_drift
from s2svos_export.drift_measure import measure_drift
from s2svos_export.drift_report import draw_drift, print_drift

ENGINES = ("onnxruntime", "openvino")
STATES = {state.name for state in small_contract("lite").states}
Clip = list[tuple[Frame, Labels]]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=8, height=64, width=112))


def loaded(
    folder: Path,
    precision: str = "fp32",
    names: Sequence[str] = ENGINES,
    **graphs: bytes,
) -> list[Engine]:
    """Engines of the small network, with other graphs in the place of its own; none in bf16."""
    graphs = {name: small_graph("lite", name) for name in ("init", "step")} | graphs
    path = folder / "x.s2s"
    write_bundle(path, contract=small_contract("lite"), graphs={precision: graphs}, facts={})
    bundle = Bundle.open(path)
    return [engine_variants(bundle, name, precision=precision, threads=1)[0] for name in names]


def measured(engines: Sequence[Engine], clip: Clip, **options: Any) -> DriftReport:
    options = {"frames": 12, "forced_every": 4, "source": "the clip"} | options
    loaders = [partial(list, [engine]) for engine in engines]
    return measure_drift(small_network("lite"), loaders, clip, **options)


def scaled(graph: str, tensor: str, factor: float) -> bytes:
    """A graph whose output is its own times a factor."""
    model = onnx.load_model_from_string(small_graph("lite", graph))
    producer = next(node for node in model.graph.node if tensor in node.output)
    inner = f"{tensor}_before"
    producer.output[list(producer.output).index(tensor)] = inner
    for node in model.graph.node:
        node.input[:] = [inner if name == tensor else name for name in node.input]
    constant = numpy_helper.from_array(np.float32(factor), "disturbance")
    model.graph.initializer.append(constant)
    model.graph.node.append(helper.make_node("Mul", [inner, "disturbance"], [tensor]))
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> DriftReport:
    return measured(loaded(tmp_path_factory.mktemp("good")), clip)


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, clip: Clip) -> DriftReport:
    """The cell is 5 % too large after every step."""
    step = scaled("step", "out_cell", 1.05)
    return measured(loaded(tmp_path_factory.mktemp("bad"), "int8", step=step), clip)


def test_exported_graphs_do_not_drift(good: DriftReport) -> None:
    assert [drift.engine for drift in good.drifts] == list(ENGINES)
    assert good.seen > 0.5, "empty masks would agree with anything"
    assert not good.verdict(0.98)
    for drift in good.drifts:
        assert np.shape(drift.iou) == (12, len(good.objects))
        assert drift.free_running.frames == tuple(range(1, 13))
        assert drift.teacher_forced.frames == (1, 5, 9)
        assert set(drift.init) == STATES
        assert max(drift.free_running.tensors[name].largest for name in STATES) < 1e-3
        assert drift.first_below(0.95) is None


def test_teacher_forcing_finds_the_tensor_that_errs(bad: DriftReport) -> None:
    for drift in bad.drifts:
        assert (drift.worst_call.graph, drift.worst_call.tensor) == ("step", "cell")
        assert drift.worst_call.frame in drift.teacher_forced.frames
        one_call = {name: errors.overall for name, errors in drift.teacher_forced.tensors.items()}
        assert 0.02 < one_call.pop("cell") < 0.1
        assert max(one_call.values()) < 1e-3
        # Carried on it grows, and reaches what follows from the cell.
        carried = drift.free_running.tensors
        assert carried["cell"].rms[-1] > 2 * carried["cell"].rms[0]
        assert carried["hidden"].rms[-1] > 10 * one_call["hidden"]


def test_an_error_of_init_is_not_blamed_on_the_step(tmp_path: Path, clip: Clip) -> None:
    engines = loaded(tmp_path, init=scaled("init", "out_first_keys", 0.9))
    for drift in measured(engines, clip).drifts:
        assert drift.worst_call.graph == "init"
        assert drift.worst_call.tensor == "first_keys"
        assert drift.worst_call.frame == 0
        assert drift.worst_call.rms == pytest.approx(0.1, rel=1e-3)
        assert max(drift.teacher_forced.tensors[name].largest for name in STATES) < 1e-3
        assert min(drift.free_running.tensors["first_keys"].rms) > 0.05


class Inverting:
    """An engine whose masks are all but the object on one frame."""

    def __init__(self, engine: Engine, frame: int) -> None:
        self.engine, self.frame = engine, frame

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def runner(self, states: Any) -> Any:
        runner = self.engine.runner(states)
        runner.step = self._inverting(runner)  # type: ignore[method-assign]
        return runner

    def _inverting(self, runner: Runner[Any]) -> Callable[[Frame], Masks]:
        step, taken = runner.step, 0

        def inverting(frame: Frame) -> Masks:
            nonlocal taken
            taken += 1
            return step(frame) ^ np.uint8(255 * (taken == self.frame))

        return inverting


def test_the_verdict_names_the_frame(tmp_path: Path, clip: Clip) -> None:
    (engine,) = loaded(tmp_path, "fp16", ENGINES[:1])
    report = measured([Inverting(engine, 7)], clip)  # type: ignore[list-item]
    (failure,) = report.verdict(0.98)
    assert (failure.first_below, failure.worst_frame, failure.worst_iou) == (7, 7, 0.0)
    assert failure.lost == report.objects[0]
    assert failure.mean_iou == pytest.approx(11 / 12, abs=0.01)
    text = str(failure)
    assert text.startswith("fp16 onnxruntime has mean IoU 0.91")
    assert f"object {failure.lost} falls below 0.95 on frame 7" in text
    assert not report.verdict(0.9)


def test_fp32_is_held_to_more_than_the_budget(good: DriftReport) -> None:
    rough = [[0.99] * len(good.objects)] * 12
    rows = tuple(map(tuple, rough))
    for precision, expected in (("fp32", 0.999), ("int8", None)):
        report = replace(good, drifts=(replace(good.drifts[0], precision=precision, iou=rows),))
        found = [failure.least_iou for failure in report.verdict(0.98)]
        assert found == ([expected] if expected else [])


def test_a_failure_without_a_lost_object_says_so(good: DriftReport) -> None:
    rows = tuple((0.97,) * len(good.objects) for _ in range(12))
    (failure,) = replace(good, drifts=(replace(good.drifts[0], iou=rows),)).verdict()
    assert isinstance(failure, Failure)
    assert failure.first_below is None
    assert "no object falls below 0.95" in str(failure)


def test_numbers_that_overflow_are_found_and_kept(tmp_path: Path, clip: Clip) -> None:
    step = scaled("step", "out_hidden", math.inf)
    report = measured(loaded(tmp_path, names=ENGINES[:1], step=step), clip)
    (drift,) = report.drifts
    assert drift.worst_call.tensor in STATES
    assert math.isinf(drift.free_running.tensors["hidden"].rms[-1])
    text = json.dumps(report.to_json(), allow_nan=False)
    assert DriftReport.from_json(json.loads(text)) == report
    json.dumps(parity([report]), allow_nan=False)
    assert Image.open(io.BytesIO(draw_drift(report))).format == "PNG"


def test_several_frames_a_call(tmp_path: Path, clip: Clip) -> None:
    engines = loaded(tmp_path, step4=small_graph("lite", "step4"))
    report = measured(engines, clip, frames=14, frames_per_call=(1, 4), forced_every=2)
    assert report.frames == 16, "whole calls"
    assert [d.graph for d in report.drifts] == ["step", "step4"] * 2
    for drift in report.drifts:
        assert drift.mean_iou > 0.999
        assert np.shape(drift.iou) == (16, len(report.objects))
        assert max(drift.teacher_forced.tensors[name].largest for name in STATES) < 1e-3
    assert report.drifts[1].free_running.frames == (4, 8, 12, 16)
    assert report.drifts[1].teacher_forced.frames == (4, 12)
    assert report.drifts[1].label == "fp32 onnxruntime step4"


def bundle_of(path: Path, reports: bytes) -> Bundle:
    graphs = {name: small_graph("lite", name) for name in ("init", "step")}
    contract = small_contract("lite")
    write_bundle(
        path, contract=contract, graphs={"fp32": graphs}, facts={}, others={DRIFT: reports}
    )
    return Bundle.open(path)


def test_the_reports_survive_as_json(tmp_path: Path, good: DriftReport, bad: DriftReport) -> None:
    several = bundle_of(tmp_path / "several.s2s", write_drift([good, bad]))
    assert read_drift(several) == (good, bad)
    before = bundle_of(tmp_path / "before.s2s", json.dumps(good.to_json()).encode())
    assert read_drift(before) == (good,), "what bundles had when there was one clip"


def test_the_manifest_gets_the_worst_engine_on_the_worst_clip(
    good: DriftReport, bad: DriftReport
) -> None:
    rows = tuple((0.9,) * len(good.objects) for _ in range(12))
    worse = replace(bad.drifts[1], iou=rows)
    reports = [good, replace(bad, source="another", drifts=(bad.drifts[0], worse))]
    both = parity(reports)
    assert list(both) == ["fp32", "int8"]
    assert (both["int8"]["clip"], both["int8"]["mean_iou"]) == ("another", 0.9)
    assert (both["int8"]["engine"], both["int8"]["engines"]) == (worse.engine, sorted(ENGINES))
    assert both["fp32"]["clip"] == good.source
    assert set(both["int8"]["state_error"]) == STATES
    assert both["int8"]["state_error"]["cell"] > 0.05


def test_picture_and_table_show_everything(good: DriftReport, bad: DriftReport) -> None:
    both = replace(good, drifts=(*good.drifts, *bad.drifts))
    picture = Image.open(io.BytesIO(draw_drift(both)))
    picture.load()
    assert picture.format == "PNG"
    assert len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)) > 20

    console = Console(width=80, file=io.StringIO(), record=True)
    print_drift(both, console)
    text = console.export_text()
    for word in (*(drift.label for drift in both.drifts), *both.scale, "the clip"):
        assert word in text
    assert "…" not in text


def test_a_long_clip_is_read_no_further_than_needed(tmp_path: Path, clip: Clip) -> None:
    pairs, done = iter(clip), []
    measured(loaded(tmp_path, names=ENGINES[:1]), pairs, frames=3, progress=done.append)  # type: ignore[arg-type]
    assert done == [1, 2, 3]
    assert len(list(pairs)) == len(clip) - 4


def test_what_cannot_be_measured_is_refused(tmp_path: Path, clip: Clip) -> None:
    engines = loaded(tmp_path, names=ENGINES[:1])
    with pytest.raises(ValueError, match="no object"):
        measured(engines, [(clip[0][0], np.zeros_like(clip[0][1]))])
    with pytest.raises(ValueError, match="no frame"):
        measured(engines, [])
    with pytest.raises(ValueError, match="at least 1"):
        measured(engines, clip, frames=0)
