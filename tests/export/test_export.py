from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_graphs import SMALL, small_network
from torch import Tensor

from s2svos.network.checkpoint import build
from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import OBJECTS
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine
from s2svos_export import export as module
from s2svos_export.export import ExportConfig, export

Exported = tuple[torch.nn.Module, Path]


def write(network: torch.nn.Module, out: Path, name: str = "x") -> None:
    clip = list(render(length=52, height=64, width=112))
    options = {"clip": clip, "source": "rendered", "config": ExportConfig(frames=51)}
    export(network, out, name=name, facts={}, log=lambda text: None, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module", params=list(SMALL))
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    network = small_network(request.param)
    path = tmp_path_factory.mktemp("bundle") / "x.s2s"
    write(network, path, request.param)
    return network, path


def test_graphs_keep_the_contract(exported: Exported) -> None:
    bundle = Bundle.open(exported[1])
    for name in ("init", "step"):
        model = onnx.load_model_from_string(bundle.graph(name))
        graph = model.graph
        assert name in graph.name
        for specs, values in (
            (getattr(bundle.contract, f"{name}_inputs"), graph.input),
            (getattr(bundle.contract, f"{name}_outputs"), graph.output),
        ):
            found = [
                (v.name, [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim])
                for v in values
            ]
            assert found == [(spec.name, list(spec.shape)) for spec in specs]
        uses = [node.op_type for node in graph.node if "frame" in node.input]
        assert uses == ["Cast"], "TensorRT takes uint8 through a Cast alone"
        made = {output: node.op_type for node in graph.node for output in node.output}
        if name == "step":
            assert made[bundle.contract.object_masks.name] == "Cast"


def test_encoder_sees_the_frame_once(exported: Exported) -> None:
    graph = onnx.shape_inference.infer_shapes(
        onnx.load_model_from_string(Bundle.open(exported[1]).graph("step"))
    ).graph
    dims = {v.name: v.type.tensor_type.shape.dim for v in graph.value_info}
    batch = [
        dims[node.output[0]][0].dim_param or dims[node.output[0]][0].dim_value
        for node in graph.node
        if node.op_type == "Conv" and node.output[0] in dims
    ]
    assert batch.count(1) > 10
    assert OBJECTS in batch


def test_manifest_holds_the_proof(exported: Exported) -> None:
    parity = Bundle.open(exported[1]).manifest["parity"]["fp32"]
    assert parity["frames"] >= 50
    assert parity["mean_iou"] >= 0.999
    assert set(parity["state_error"]) == {s.name for s in Bundle.open(exported[1]).contract.states}


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_any_number_of_objects(exported: Exported, engine: str) -> None:
    network, path = exported
    engine = load_engine(Bundle.open(path), engine)
    contract = Bundle.open(path).contract
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (contract.height, contract.width, 3), dtype=np.uint8)
    for objects in (1, 3, 7, 2):
        masks = np.zeros((objects, contract.height, contract.width), np.uint8)
        masks[:, 8:40, 8:60] = 255
        runner = engine.runner(engine.init(frame, masks))
        got = runner.step(frame)
        with torch.inference_mode():
            first: tuple[Tensor, ...] = network.init(
                torch.from_numpy(frame), torch.from_numpy(masks)
            )  # type: ignore[operator]
            expected = network.step(torch.from_numpy(frame), *first)[0].numpy()  # type: ignore[operator]
        assert got.shape == expected.shape
        assert np.abs(got.astype(int) - expected.astype(int)).max() <= 2


def test_a_network_that_differs_is_refused(
    exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure = module.measure_drift

    def against_another(_network, *arguments, **options):  # type: ignore[no-untyped-def]
        torch.manual_seed(7)
        other = build(exported[0].config).eval()  # type: ignore[arg-type]
        with torch.no_grad():
            for parameter in other.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
        return measure(other, *arguments, **options)

    monkeypatch.setattr(module, "measure_drift", against_another)
    with pytest.raises(UserError, match="Nothing was written"):
        write(exported[0], tmp_path / "y.s2s")
    assert not list(tmp_path.iterdir())
