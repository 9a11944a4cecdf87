"""Bundles with every precision, and with four frames a call."""

import json
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto
from small_graphs import SMALL, small_graph, small_network

from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle
from s2svos_engines.registry import load_engine
from s2svos_export import export as module
from s2svos_export.drift import DriftReport
from s2svos_export.export import ExportConfig, sizes
from s2svos_export.graphs import export_graph

CONFIG = ExportConfig(
    ("fp32", "fp16", "int8"), 4, batch=True, frames=36, budget=0.5, accept_drift=True
)
GRAPHS = ("init", "step", "step4", "batch")


@pytest.fixture(scope="module", params=list(SMALL))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bundle") / "x.s2s"
    clip = list(render(length=52, height=64, width=112))
    network = small_network(request.param)
    options = {"clip": clip, "source": "drawn", "calibration": [clip], "config": CONFIG}

    def exported_once(source: object, graph: str, *, precision: str, **other: Any) -> bytes:
        if source is not network:  # a variant of it
            return export_graph(source, graph, precision=precision, **other)  # type: ignore[arg-type]
        return small_graph(request.param, graph, precision)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "export_graph", exported_once)
        module.export(network, path, name=request.param, facts={}, log=lambda _: None, **options)  # type: ignore[arg-type]
    return Bundle.open(path)


def test_every_graph_keeps_the_contract(bundle: Bundle) -> None:
    assert bundle.precisions == CONFIG.precisions
    titles = set()
    for precision, name in product(bundle.precisions, GRAPHS):
        graph = onnx.load_model_from_string(bundle.graph(name, precision=precision)).graph
        titles.add(graph.name)
        interface = bundle.contract.interface(name)
        for specs, values in (
            (interface.inputs, graph.input),
            (interface.outputs, graph.output),
        ):
            found = [
                (v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
                for v in values
            ]
            assert found == [(spec.name, list(spec.shape)) for spec in specs]
        uses = [node.op_type for node in graph.node if interface.inputs[0].name in node.input]
        assert [one for one in uses if one != "Shape"] == ["Cast"], (
            "TensorRT takes uint8 through a Cast alone"
        )
        made = {output: node.op_type for node in graph.node for output in node.output}
        assert name == "init" or made[bundle.contract.object_masks.name] == "Cast"
    assert len(titles) == 11, "int8 has the init graph of fp32; all others are called differently"


def test_half_precision_is_half(bundle: Bundle) -> None:
    graph = onnx.load_model_from_string(bundle.graph("step", precision="fp16")).graph
    weights = {n.input[1] for n in graph.node if n.op_type in ("Conv", "ConvTranspose")}
    kinds = {one.data_type for one in graph.initializer if one.name in weights}
    assert kinds == {TensorProto.FLOAT16}
    size = sizes(bundle)
    assert size["fp16"] < 0.7 * size["fp32"]


def test_the_report_has_every_way_of_running(bundle: Bundle) -> None:
    parity = bundle.manifest["parity"]
    assert set(parity) == {"fp32", "fp16", "int8"}
    assert parity["fp32"]["mean_iou"] >= 0.999
    report = DriftReport.from_json(json.loads(bundle.read("drift.json")))
    labels = {drift.label for drift in report.drifts}
    assert {"int8 openvino", "fp16 onnxruntime step4"} <= labels
    assert len(labels) == 3 * 2 * 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_four_frames_a_call_are_four_calls(bundle: Bundle, engine: str, precision: str) -> None:
    runner = load_engine(bundle, engine, precision=precision, threads=1)
    assert runner.frames_per_call == (1, 4)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, *bundle.contract.interface("step").inputs[0].shape), np.uint8)
    masks = np.zeros((2, *frames.shape[1:3]), np.uint8)
    masks[0, 8:40, 8:60] = masks[1, 30:60, 40:100] = 255
    states = runner.init(frames[0], masks)
    single, several = runner.runner(states), runner.runner(states)
    expected = np.stack([single.step(frame).copy() for frame in frames[1:]])
    got = several.steps(frames[1:])
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected.astype(int)).max() <= 3
    for one, other in zip(single.states(), several.states(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)
