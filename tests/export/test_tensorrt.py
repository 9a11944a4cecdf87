"""Every graph through the real TensorRT-RTX compiler, which needs no GPU."""

import importlib
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import replace
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from small_graphs import GRAPHS, PRECISIONS, SMALL, small_contract, small_graph

import s2svos
from s2svos.commands.export import PlanLibrary, export
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.errors import UserError
from s2svos_engines.tensorrt import builder as tensorrt_builder
from s2svos_engines.tensorrt.builder import build_plan, build_target
from s2svos_engines.tensorrt.library import library_log, load_library
from s2svos_engines.tensorrt.plan_cache import build, build_plans, new_plan
from s2svos_engines.tensorrt.plans import Target, matching_plan
from s2svos_export.weight_sharing import share_weights

pytestmark = pytest.mark.tensorrt
compiler = pytest.mark.skipif(
    not (find_spec("tensorrt_rtx") or find_spec("tensorrt_rtx_bindings")),
    reason="TensorRT-RTX is not installed; NVIDIA has no wheels for this platform",
)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    load_library.cache_clear()
    yield tmp_path / "cache" / "s2svos"
    load_library.cache_clear()


@pytest.fixture
def target() -> Target:
    return build_target("tensorrt-rtx")


@compiler
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("preset", SMALL)
def test_every_graph_builds(
    target: Target, cache: Path, preset: str, precision: str, graph: str
) -> None:
    model = small_graph(preset, graph, precision)
    title = f"{preset} {graph} {precision}"
    plan = build_plan(model, small_contract(preset), graph, target, title=title)
    quantised = "QuantizeLinear" in {one.op_type for one in onnx.load(BytesIO(model)).graph.node}
    assert quantised == (precision == "int8" and graph != "init")
    assert len(plan) > 100_000
    (log,) = (cache / "logs").iterdir()
    assert title.replace(" ", "-") in log.name
    assert "Opset version" in log.read_text()


@compiler
def test_the_bundle_that_ships_builds_at_full_size(target: Target) -> None:
    bundle = Bundle.open(s2svos.default_bundle()).for_gpu()
    for precision, graphs in bundle.manifest.graphs.items():
        for graph in graphs:
            assert build(bundle, new_plan(bundle, graph, precision, target))


@compiler
def test_half_precision_is_half(target: Target) -> None:
    sizes = [
        len(build_plan(model, small_contract("paper"), "step", target, title="step"))
        for model in (small_graph("paper", "step", precision) for precision in ("fp32", "fp16"))
    ]
    assert sizes[1] < 0.8 * sizes[0], "the compiler takes the types from the graph"


def broken(change: Callable[[onnx.GraphProto], None]) -> bytes:
    model = onnx.load_model_from_string(small_graph("paper", "step"))
    change(model.graph)
    return model.SerializeToString()


def before_the_cast(node: onnx.NodeProto) -> Callable[[onnx.GraphProto], None]:
    def insert(graph: onnx.GraphProto) -> None:
        (cast,) = (one for one in graph.node if "frame" in one.input)
        cast.input[0] = node.output[0]
        graph.node.insert(0, node)

    return insert


def arithmetic_on_the_mask(graph: onnx.GraphProto) -> None:
    (last,) = (one for one in graph.node if "object_masks" in one.output)
    last.name, last.output[0] = "the_last_cast", "early"
    inputs = ["early", "early"]
    graph.node.append(helper.make_node("Max", inputs, ["object_masks"], name="maximum"))


def quantised_bias(graph: onnx.GraphProto) -> None:
    conv = next(one for one in graph.node if one.op_type == "Conv")
    weight = next(one for one in graph.initializer if one.name == conv.input[1])
    values = np.ones(weight.dims[0], np.int32)
    graph.initializer.append(numpy_helper.from_array(values, "integers"))
    graph.initializer.append(numpy_helper.from_array(np.float32(0.1), "scale"))
    inputs = ["integers", "scale"]
    graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, ["b"], name="the_bias"))
    conv.input[2:] = ["b"]


ADD = helper.make_node("Add", ["frame", "frame"], ["twice"], name="twice_the_frame")
TURN = helper.make_node("Transpose", ["frame"], ["turned"], name="turn_the_frame", perm=[0, 1, 2])
SHIFT = helper.make_node("BitShift", ["frame", "frame"], ["x"], name="shift", direction="LEFT")


@compiler
@pytest.mark.parametrize(
    ("change", "node", "advice"),
    [
        (before_the_cast(ADD), "twice_the_frame", "uint8 may only enter through a Cast"),
        (before_the_cast(TURN), "turn_the_frame", "uint8 may only enter through a Cast"),
        (before_the_cast(SHIFT), "shift", "other operators or types"),
        (arithmetic_on_the_mask, "the_last_cast", "leave through a Cast"),
        (quantised_bias, "the_bias", "leave biases unquantised"),
    ],
)
def test_a_wrong_graph_is_refused_at_its_node_with_advice(
    target: Target,
    cache: Path,
    change: Callable[[onnx.GraphProto], None],
    node: str,
    advice: str,
) -> None:
    with pytest.raises(UserError) as error:
        build_plan(broken(change), small_contract("paper"), "step", target, title="wrong")
    (log,) = (cache / "logs").iterdir()
    for part in ("refuses wrong", f"At node {node} (", advice, str(log)):
        assert part in str(error.value)
    assert node in log.read_text()


@compiler
def test_what_is_no_model(target: Target) -> None:
    with pytest.raises(UserError, match=r"At the model.*\n.*export it again"):
        build_plan(b"no model" * 99, small_contract("paper"), "step", target, title="nothing")


@compiler
def test_what_parses_and_does_not_build_says_why(target: Target) -> None:
    bundle = Bundle.open(s2svos.default_bundle())
    turing = replace(target, compute_capabilities=("7.5",))  # has no matrix product in fp32
    with pytest.raises(UserError, match=r"cannot build step; the whole log is .*\n.*SM75"):
        build_plan(bundle.graph("step"), bundle.contract, "step", turing, title="step")


@compiler
def test_interrupted_build_leaves_the_next_one_whole(
    target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, contract = small_graph("paper", "step"), small_contract("paper")
    cancelled: list[bool] = []

    def interrupt(builds: list[futures.Future[object]]) -> None:
        cancelled.append(not builds[0].done())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(tensorrt_builder, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            build_plan(model, contract, "step", target, title="step")
    assert cancelled == [True]
    assert build_plan(model, contract, "step", target, title="step")


@compiler
@pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
def test_timing_cache_is_kept_and_read_again(cache: Path) -> None:
    # TensorRT-RTX keeps no timings, but takes and gives the cache as TensorRT does.
    trt = load_library("tensorrt-rtx")
    gpu = Target("tensorrt", "11.4.0", ("9.0",), "NVIDIA H200", "580.65.6")
    builder = trt.Builder(library_log("tensorrt-rtx"))
    for _ in range(2):
        with tensorrt_builder._timing_cache(gpu, builder.create_builder_config()):
            pass
        (kept,) = cache.iterdir()
        assert kept.name == "tensorrt-11.4.0-NVIDIA-H200.timing"
        assert kept.stat().st_size > 0


@compiler
def test_plans_of_a_bundle(
    target: Target, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "x.s2s"
    graphs = {
        precision: {graph: small_graph("paper", graph, precision) for graph in ("init", "step")}
        for precision in ("fp32", "int8")
    }
    (pieces,) = share_weights(graphs)  # as s2svos export stores them
    write_bundle(path, contract=small_contract("paper"), graphs=pieces, facts={"network": {"a": 1}})
    export(path, plan=[PlanLibrary.TENSORRT_RTX], max_objects=3)
    lines = capsys.readouterr().err.splitlines()
    assert len([line for line in lines if "building" in line]) == 1 + 3, "init is built once"
    bundle = Bundle.open(path)
    assert bundle.manifest.network == {"a": 1}
    ada = Target(target.library, target.version, ("8.9",), "NVIDIA RTX 4090", "580.65.6")
    for precision, models in graphs.items():
        for graph in models:
            plan = matching_plan(bundle, graph, precision, ada, objects=3)
            assert len(bundle.read(plan.member)) > 100_000


@compiler
def test_a_refused_graph_leaves_the_bundle_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "x.s2s"
    models = {"init": small_graph("paper", "init"), "step": broken(before_the_cast(ADD))}
    write_bundle(path, contract=small_contract("paper"), graphs={"fp32": models}, facts={})
    before = path.read_bytes()
    with pytest.raises(UserError, match="twice_the_frame"):
        build_plans(path, "tensorrt-rtx", log=lambda text: None)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "found", "message"),
    [
        ("tensorrt", ModuleNotFoundError(), r"TensorRT is not installed.*s2svos\[tensorrt\]"),
        ("tensorrt-rtx", ModuleNotFoundError(), r"TensorRT-RTX is not.*s2svos\[tensorrt-rtx\]"),
        ("tensorrt", ImportError("libnvinfer.so.11: cannot open"), "cannot be loaded.*libnvinfer"),
        ("tensorrt", "10.3.0", r"TensorRT 10\.3\.0 is too old, 10\.9 is the oldest.*pip install"),
        ("tensorrt-rtx", "1.6.1.120", r"TensorRT-RTX 1\.6\.1\.120 is too old, 1\.7"),
    ],
)
def test_absent_broken_and_old_libraries(
    monkeypatch: pytest.MonkeyPatch, name: str, found: str | Exception, message: str
) -> None:
    def fake(module: str) -> SimpleNamespace:
        if isinstance(found, Exception):
            raise found
        return SimpleNamespace(__version__=found)

    monkeypatch.setattr(importlib, "import_module", fake)
    with pytest.raises(UserError, match=message):
        load_library(name)
