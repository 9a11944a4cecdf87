"""The latency suite, on a small network and on results made up."""

import copy

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_graphs import small_contract, small_graph, small_network
from typer.testing import CliRunner

from benchmarks.latency import timing
from benchmarks.latency.__main__ import app
from benchmarks.latency.comparison import compare_results
from benchmarks.latency.groups import groups
from benchmarks.latency.records import append, by_group, find, read
from benchmarks.latency.statistics import misses, ratio, summary
from benchmarks.latency.suite import NO_TIME, Plan, measure
from benchmarks.latency.tables import BEGIN, END, document
from benchmarks.latency.variants import OURS, Variant, VariantFactory
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine
from s2svos_export.work import count


def _bundle(folder, **names):
    """Of the small network, with graphs of these names in each precision."""
    graphs = {
        precision: {name: small_graph("lite", name, precision) for name in each}
        for precision, each in names.items()
    }
    path = folder / "small.s2s"
    write_bundle(path, contract=small_contract("lite"), graphs=graphs, facts={})
    return Bundle.open(path)


class TickingClock:
    """A clock on which a second passes whenever it is read, however busy the machine is."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1.0
        return self.now


def quick(seconds):
    """The quick plan, with so many readings of the clock for all of it."""
    return Plan.quick(seconds, threads=1)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latency")
    bundle = _bundle(folder, fp32=["init", "step", "batch"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "ROUND_SECONDS", 0.01)
        # It takes 340 readings to measure everything.
        append(folder / "results.jsonl", measure(bundle.path, quick(400), clock=TickingClock()))
    return folder / "results.jsonl"


def test_quick_run_measures_every_variant_and_its_iou(results):
    (result,) = read(results)
    assert not [row for row in result["skipped"] if row["why"] == NO_TIME]
    names = {(row["contestant"], row["objects"], row["streams"]) for row in result["rows"]}
    for engine in ("openvino", "onnxruntime"):
        assert {(engine, 1, 1), (engine, 10, 1), (engine, 1, 8)} <= names
        assert {(f"batched {engine}", 1, 8), (f"in turn {engine}", 1, 8)} <= names
        assert (f"bare {engine}", 1, 1) in names
    peers = {"onnxruntime run", "onnxruntime bind", "openvino infer", "torch eager"}
    assert {(peer, 1, 1) for peer in peers} <= names
    for row in result["rows"]:
        assert row["iou"]["worst"] > 0.9, row["contestant"]
        assert row["iou"]["mean"] <= 1
        assert len(row["turns_ms"]) == result["groups"][row["group"]]["turns"]
        assert row["flops"] > 0
    ours = next(row for row in result["rows"] if row["contestant"] == "openvino")
    assert ours["alone"]["host_mib"] > 20
    assert ours["alone"]["cold_start_seconds"] > ours["alone"]["first_mask_seconds"]
    assert set(ours["stages"]) == {"decode", "shrink", "upload, step, download", "merge", "write"}
    assert result["environment"]["cpu"]
    assert result["peak_host_mib"] > 100
    for engine in ("openvino", "onnxruntime"):
        batched = find(result["rows"], f"batched {engine}", "fp32", streams=8)
        assert batched["frames_per_second"] <= (
            8 * batched["steps"] / (sum(map(sum, batched["turns_ms"])) / 1000)
        )
    several = [group for group in by_group(result).values() if group[0]["objects"] == 10]
    assert [[row["objects"] for row in group] for group in several] == [[10, 1], [10, 1]]


def test_what_the_time_does_not_allow_is_left_out_and_named(results):
    bundle = Bundle.open(results.parent / "small.s2s")
    result = measure(bundle.path, quick(60), clock=TickingClock())
    every = [
        variant
        for group in groups(bundle, (1, 10), (1, 8), everything=False)
        for variant in group.variants
    ]
    assert len(result["rows"]) + len(result["skipped"]) == len(every)
    assert result["rows"][0]["contestant"] == "openvino"
    late = [row for row in result["skipped"] if row["why"] == NO_TIME]
    assert "10 objects, onnxruntime fp32" in {row["group"] for row in late}
    assert f"{NO_TIME}: " in document([result], [])


def test_a_time_that_nothing_fits_into_is_refused(tmp_path):
    path = _bundle(tmp_path, fp32=["init", "step"]).path
    with pytest.raises(UserError, match="Nothing fits into 1 seconds"):
        measure(path, quick(1), clock=TickingClock())


def test_every_precision_and_object_count_has_its_group(tmp_path):
    found = groups(
        _bundle(tmp_path, fp32=["init", "step"]), (1, 2, 10), (1, 8, 16), everything=True
    )
    assert found[0].name == "1 object, fp32"
    names = [group.name for group in found]
    assert names.index("10 objects, openvino fp32") < names.index("8 streams, openvino fp32")
    assert names.index("8 streams, openvino fp32") < names.index("2 objects, openvino fp32")
    assert "16 streams, openvino fp32" not in names
    for group in found:
        ours = {
            (variant.objects, variant.streams) for variant in group.variants if variant.kind == OURS
        }
        assert (1, 1) in ours, group.name


def test_a_bundle_that_is_measured_is_not_measured_again(results):
    lines = results.read_text()
    bundle = results.parent / "small.s2s"
    arguments = ["run", "--quick", "--bundle", str(bundle), "--out", str(results)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    assert results.read_text() == lines


def test_render_gives_tables_plots_and_the_readme(results, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"above\n{BEGIN}\nold\n{END}\nbelow\n")
    arguments = ["render", str(results), "--out", str(tmp_path), "--readme", str(readme)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    text = (tmp_path / "latency.md").read_text()
    for words in (
        *("openvino fp32: step / bare call", "onnxruntime fp32: 10 objects / 1"),
        *("batched openvino fp32: 8 streams / in turn", "torch eager fp32 / openvino fp32"),
    ):
        assert words in text
    (picture,) = tmp_path.glob("*.png")
    assert picture.name in text
    table = readme.read_text()
    assert table.startswith("above\n")
    assert table.endswith("below\n")
    assert "old" not in table
    assert "| small | openvino | 10 | " in table
    assert "batched" not in table


def test_streams_in_one_call_are_left_out_with_the_reason_where_there_is_no_graph(tmp_path):
    bundle = _bundle(tmp_path, fp32=["init", "step"])
    frame = np.zeros((bundle.contract.height, bundle.contract.width, 3), np.uint8)
    variant = Variant("batched torch", OURS, "fp32", streams=8)  # the others have threads for them
    with pytest.raises(UserError, match="no batch graph; export it with --batch"):
        VariantFactory(bundle, threads=1).loop(variant, frame, frame[None, ..., 0])


@pytest.mark.parametrize("trained", [True, False])
def test_pytorch_computes_in_half_precision_what_it_does_in_single(trained, tmp_path):
    from benchmarks.latency.variants import TorchLoop
    from s2svos.network.checkpoint import save_checkpoint

    bundle = _bundle(tmp_path, fp32=["init", "step"], fp16=["init", "step"])
    checkpoint, network = tmp_path / "final.pt", small_network("lite")
    save_checkpoint(checkpoint, config=network.config, weights=network.state_dict(), facts={})
    rng = np.random.default_rng(0)
    height, width = bundle.contract.height, bundle.contract.width
    frame = rng.integers(0, 256, (height, width, 3), np.uint8)
    states = load_engine(bundle, "onnxruntime").init(frame, frame[None, ..., 0])
    single, half = (
        TorchLoop(
            bundle,
            states,
            checkpoint if trained else None,
            precision=precision,
            threads=1,
            compiled=False,
        ).step(frame)
        for precision in ("fp32", "fp16")
    )
    assert np.abs(single.astype(int) - half).max() <= 2


def test_flops_and_bytes_by_hand():
    def value(name, *shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))

    weights = {
        "conv": np.zeros((8, 2, 3, 3), np.float32),  # 4 inputs in two groups
        "deconv": np.zeros((8, 5, 2, 2), np.float32),
        "matrix": np.zeros((12, 7), np.float32),
        "square": np.zeros((5, 5), np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"], group=2, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["a", "deconv"], ["b"], strides=[2, 2]),
        helper.make_node("MatMul", ["b", "matrix"], ["y"]),
        helper.make_node("MatMul", ["of_entry", "square"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "sum",
        [value("x", "objects", 4, 10, 6), value("of_entry", "entries", 6, 5)],
        [value("y", "objects", 5, 20, 7), value("z", "entries", 6, 5)],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.checker.check_model(model)
    conv = 2 * (3 * 8 * 10 * 6) * (2 * 3 * 3)
    deconv = 2 * (3 * 8 * 10 * 6) * (5 * 2 * 2)
    product = 2 * (3 * 5 * 20 * 7) * 12
    once = 2 * (6 * 5) * 5  # of three objects that entered together
    moved = 4 * (8 * 2 * 9 + 8 * 5 * 4 + 12 * 7 + 3 * 4 * 60 + 3 * 5 * 20 * 7 + 25 + 2 * 6 * 5)
    work = count(model.SerializeToString(), objects=3)
    assert (work.flops, work.bytes) == (conv + deconv + product + once, moved)


def test_percentiles_need_samples_beyond_them():
    rounds = [[float(10 * round_ + step) for step in range(10)] for round_ in range(12)]
    found = summary(rounds)
    assert found["p50"]["ms"] == 59.5
    assert found["p50"]["low"] < 59.5 < found["p50"]["high"]
    assert found["p99"] is not None
    assert found["p99.9"] is None
    assert misses([[10.0, 20.0], [30.0, 40.0]], 60) == 0.75


def test_ratio_in_the_same_turns_is_free_of_the_machines_noise():
    rng = np.random.default_rng(1)
    busy = rng.uniform(1, 3, 40)  # every turn is slower by another factor
    below = [[10 * factor] * 3 for factor in busy]
    above = [[12 * factor] * 3 for factor in busy]
    value, low, high = ratio(above, below)
    assert value == pytest.approx(1.2)
    assert low == pytest.approx(1.2)
    assert high == pytest.approx(1.2)


def _result(seed, *, slower=1.0, machine=1.0):
    rng = np.random.default_rng(seed)

    def rounds(median):
        busy = machine * rng.lognormal(0, 0.08, (30, 1))
        return (median * busy * rng.lognormal(0, 0.03, (30, 5))).tolist()

    common = {"group": "1 object", "precision": "fp32", "objects": 1, "streams": 1}
    return {
        "benchmark": "latency",
        "preset": "lite",
        "size": [256, 448],
        "threads": 2,
        "groups": {"1 object": {"turns": 30, "control_ms": rounds(20.0)}},
        "rows": [
            {"contestant": "openvino", "kind": "s2svos", **common, "turns_ms": rounds(36 * slower)},
            {"contestant": "onnxruntime", "kind": "s2svos", **common, "turns_ms": rounds(35.0)},
        ],
    }


def test_compare_finds_what_became_slower_and_passes_noise(tmp_path):
    files = {
        "before": _result(0),
        "noise": _result(1),
        "busy": _result(2, machine=1.5),
        "slower": _result(3, slower=1.3),
        "hidden": _result(4, slower=1.3, machine=0.7),
    }
    for name, result in files.items():
        append(tmp_path / name, result)

    def code(name):
        arguments = ["compare", str(tmp_path / "before"), str(tmp_path / name)]
        return CliRunner().invoke(app, arguments).exit_code

    assert {name: code(name) for name in files} == {
        **{"before": 0, "noise": 0, "busy": 0},
        **{"slower": 1, "hidden": 1},
    }


def test_compare_names_the_row_and_how_much():
    worst, other = compare_results([_result(0)], [_result(3, slower=1.3)])
    assert worst.name == "lite, openvino fp32, 1 object"
    assert worst.low < worst.ratio < worst.high
    assert 1.15 < worst.ratio < 1.45
    assert not other.is_regression(1.1)


def test_peers_are_not_compared():
    before = _result(0)
    after = copy.deepcopy(before)
    for result in (before, after):
        result["rows"][0]["kind"] = "peer"
    assert [change.name for change in compare_results([before], [after])] == [
        "lite, onnxruntime fp32, 1 object"
    ]
