"""Bundles with every precision, with four frames a call and with many streams."""

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from small_graphs import GRAPHS, SMALL, small_graph, small_network
from torch import Tensor

from s2svos.network.checkpoint import build
from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import OBJECTS
from s2svos_engines.registry import load_engine
from s2svos_export import export as module
from s2svos_export.drift import read_drift
from s2svos_export.export import DriftError, ExportConfig, export, sizes
from s2svos_export.graphs import export_graph

ENGINES = ("onnxruntime", "openvino")
CONFIG = ExportConfig(
    ("fp32", "fp16", "int8"),
    4,
    batch=True,
    frames=8,
    budget=0.5,
    accept_drift=True,
    int8_parts=3,
)


@pytest.fixture(scope="module", params=list(SMALL))
def preset(request: pytest.FixtureRequest) -> Iterator[str]:
    """A network whose graphs are those of :mod:`small_graphs`, exported once a test run."""
    network = small_network(request.param)

    def exported_once(
        source: object, graph: str, *, titles: dict[str, str], **other: Any
    ) -> dict[str, bytes]:
        if type(source) is not type(network) or has_sub_pixels(source):
            return export_graph(source, graph, titles=titles, **other)  # type: ignore[arg-type]
        return {precision: small_graph(request.param, graph, precision) for precision in titles}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "export_graph", exported_once)
        yield request.param


def has_sub_pixels(network: object) -> bool:
    assert isinstance(network, torch.nn.Module)
    return any(isinstance(one, torch.nn.PixelShuffle) for one in network.modules())


def write(network: torch.nn.Module, out: Path, name: str, config: ExportConfig) -> None:
    clip = list(render(length=36, height=64, width=112))  # 9 samples for int8, which wants 8
    clips = [("drawn", clip), ("from frame 8 on", clip[8:])]
    options = {"clips": clips, "calibration": [clip], "config": config}
    export(network, out, name=name, facts={}, log=lambda text: None, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def bundle(preset: str, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bundle") / "x.s2s"
    write(small_network(preset), path, preset, CONFIG)
    return Bundle.open(path)


def test_every_graph_keeps_the_contract(bundle: Bundle) -> None:
    assert bundle.precisions == CONFIG.precisions
    titles = set()
    for precision, name in product(bundle.precisions, GRAPHS):
        graph = onnx.load_model_from_string(bundle.graph(name, precision=precision)).graph
        assert name in graph.name
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


def test_encoder_sees_the_frame_once(bundle: Bundle) -> None:
    model = onnx.load_model_from_string(bundle.graph("step"))
    graph = onnx.shape_inference.infer_shapes(model).graph
    dims = {v.name: v.type.tensor_type.shape.dim for v in graph.value_info}
    batch = [
        dims[node.output[0]][0].dim_param or dims[node.output[0]][0].dim_value
        for node in graph.node
        if node.op_type == "Conv" and node.output[0] in dims
    ]
    assert batch.count(1) > 10
    assert OBJECTS in batch


def test_half_precision_is_half(bundle: Bundle) -> None:
    graph = onnx.load_model_from_string(bundle.graph("step", precision="fp16")).graph
    weights = {n.input[1] for n in graph.node if n.op_type in ("Conv", "ConvTranspose")}
    kinds = {one.data_type for one in graph.initializer if one.name in weights}
    assert kinds == {TensorProto.FLOAT16}
    size = sizes(bundle)
    assert size["fp16"] < 0.7 * size["fp32"]


def test_manifest_and_report_hold_the_proof(bundle: Bundle) -> None:
    parity = bundle.manifest.parity
    assert set(parity) == {*CONFIG.precisions, "int8_gpu"}
    assert parity["fp32"]["frames"] == CONFIG.frames
    assert set(parity["fp32"]["state_error"]) == {state.name for state in bundle.contract.states}
    # Measured 0.99999: here one pixel that falls to the other side is 0.0002 of an object.
    assert parity["fp32"]["mean_iou"] >= 0.999
    assert bundle.manifest.mean_iou("fp32") == parity["fp32"]["mean_iou"]
    reports = read_drift(bundle)
    assert [report.source for report in reports] == ["drawn", "from frame 8 on"]
    drifts = [drift for report in reports for drift in report.drifts]
    labels = {drift.label for drift in drifts}
    assert {"int8 openvino", "fp16 onnxruntime step4"} <= labels
    in_bf16 = {label for label in labels if "bf16" in label}
    of_the_gpu = {"int8_gpu onnxruntime", "int8_gpu onnxruntime step4"}
    assert of_the_gpu <= labels
    assert len(labels - in_bf16 - of_the_gpu) == 3 * 2 * 2
    assert {label.split()[0] for label in in_bf16} <= {"fp16", "int8"}
    for precision, one in parity.items():
        same = [drift for drift in drifts if drift.precision == precision]
        assert set(one["engines"]) == {drift.engine for drift in same}
        assert one["worst_iou"] == min(same, key=lambda drift: drift.mean_iou).worst_iou


def test_the_manifest_says_what_int8_takes(bundle: Bundle) -> None:
    int8 = bundle.manifest.int8
    assert list(int8) == ["weights", "spared", "alone", "iou"]
    tried = {name for part in int8["alone"] for name in part.split(" .. ")}  # faster in int8 here
    assert tried <= {*int8["weights"], *int8["spared"]}
    for one, kind in ((bundle, TensorProto.UINT8), (bundle.for_gpu(), TensorProto.INT8)):
        step = onnx.load_model_from_string(one.graph("step", precision="int8")).graph
        quantised = {one.name for one in step.initializer if one.data_type == TensorProto.INT8}
        assert {f"{name}_quantized" for name in int8["weights"]} <= quantised
        assert not {f"{name}_quantized" for name in int8["spared"]} & quantised
        kinds = {one.name: one.data_type for one in step.initializer}
        zeros = {kinds[n.input[2]] for n in step.node if n.op_type == "QuantizeLinear"}
        assert zeros == ({kind} if int8["weights"] else set())
    assert json.loads(json.dumps(int8)) == int8


@pytest.mark.parametrize("engine", ENGINES)
def test_any_number_of_objects(preset: str, bundle: Bundle, engine: str) -> None:
    network, loaded = small_network(preset), load_engine(bundle, engine, threads=1)
    contract = bundle.contract
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (contract.height, contract.width, 3), dtype=np.uint8)
    for objects in (1, 3, 7, 2):
        masks = np.zeros((objects, contract.height, contract.width), np.uint8)
        masks[:, 8:40, 8:60] = 255
        runner = loaded.runner(loaded.init(frame, masks))
        found = runner.step(frame)
        with torch.inference_mode():
            first: tuple[Tensor, ...] = network.init(
                torch.from_numpy(frame), torch.from_numpy(masks)
            )  # type: ignore[operator]
            expected = network.step(torch.from_numpy(frame), *first)[0].numpy()  # type: ignore[operator]
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= 2


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("engine", ENGINES)
def test_four_frames_a_call_are_four_calls(bundle: Bundle, engine: str, precision: str) -> None:
    loaded = load_engine(bundle, engine, precision=precision, threads=1)
    assert loaded.frames_per_call == (1, 4)
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, *bundle.contract.frame.shape), np.uint8)
    masks = np.zeros((2, *frames.shape[1:3]), np.uint8)
    masks[0, 8:40, 8:60] = masks[1, 30:60, 40:100] = 255
    states = loaded.init(frames[0], masks)
    single, several = loaded.runner(states), loaded.runner(states)
    expected = np.stack([single.step(frame).copy() for frame in frames[1:]])
    found = several.steps(list(frames[1:]))
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected.astype(int)).max() <= 3
    for one, other in zip(single.states(), several.states(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-2)


def test_another_process_shares_the_graphs(preset: str, tmp_path: Path) -> None:
    given: list[Any] = []

    class Other(ThreadPoolExecutor):
        def submit(self, task: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
            given.append(task)
            return super().submit(task, *args, **kwargs)

    clip, network = list(render(length=3, height=64, width=112)), small_network(preset)
    found = []
    for other_process in (nullcontext, lambda: Other(1)):
        out = tmp_path / "x.s2s"
        export(
            network,
            out,
            name=preset,
            clips=[("drawn", clip)],
            config=ExportConfig(("fp32", "fp16"), frames=1, budget=0.5, accept_drift=True),
            facts={},
            log=lambda text: None,
            other_process=other_process,
        )
        bundle = Bundle.open(out)
        found.append(
            {
                precision: {name: graph() for name, graph in bundle.graphs(precision).items()}
                for precision in bundle.precisions
            }
        )
    assert given
    assert all(task.args[0] is not network for task in given), "it would be pickled while traced"
    assert found[0] == found[1]
    assert all(list(graphs) == ["init", "step"] for graphs in found[1].values())


def test_a_network_that_differs_is_refused(preset: str, tmp_path: Path) -> None:
    torch.manual_seed(7)
    other = build(SMALL[preset]).eval()  # the graphs are those of the small network
    with torch.no_grad():
        for parameter in other.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    found = r"fp32 .* has mean IoU .* of drawn, less than 0\.999.* of from frame 8 on, less"
    with pytest.raises(DriftError, match=found):
        write(other, tmp_path / "y.s2s", "x", ExportConfig(frames=8))
    assert not list(tmp_path.iterdir())
