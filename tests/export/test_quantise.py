from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import InferenceSession, SessionOptions

from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.errors import UserError
from s2svos_export.calibrate import calibrate, calibration_samples
from s2svos_export.int8 import Int8Choice, Int8Search, ReferenceRun, choose, split
from s2svos_export.quantise import convolutions, quantise, quantise_for_gpu
from s2svos_export.rounding import LEVELS
from s2svos_export.weight_sharing import share_weights

Form = Callable[..., bytes]
CONTRACT = StepContract(32, 32, (StateSpec("hidden", (1,)),))
FEEDS = [
    {"x": np.random.default_rng(seed).uniform(0, 6, (1, 8, 10, 12)).astype(np.float32)}
    for seed in range(4)
]


def model_of(nodes: list, weights: dict, shapes: tuple, name: str = "graph") -> bytes:  # type: ignore[type-arg]
    """A model from ``x`` to ``z`` of two shapes."""
    x, z = (
        helper.make_tensor_value_info(one, TensorProto.FLOAT, shape)
        for one, shape in zip("xz", shapes, strict=True)
    )
    values = [numpy_helper.from_array(v.astype(np.float32), k) for k, v in weights.items()]
    graph = helper.make_graph(nodes, name, [x], [z], values)
    opset = [helper.make_opsetid("", 20)]
    data: bytes = helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
    return data


def two_convolutions() -> bytes:
    """One by groups without a bias, one with stride and bias."""
    rng = np.random.default_rng(9)
    weights = {
        "first.weight": rng.normal(size=(8, 1, 3, 3)),
        "second.weight": rng.normal(size=(4, 8, 1, 1)),
        "second.bias": rng.normal(size=4),
    }
    around = {"group": 8, "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["y"], name="a", **around),
        helper.make_node("Relu", ["y"], ["r"], name="b"),
        helper.make_node(
            "Conv", ["r", "second.weight", "second.bias"], ["z"], name="c", strides=[2, 2]
        ),
    ]
    return model_of(nodes, weights, ([1, 8, 10, 12], [1, 4, 5, 6]))


def run(model: bytes) -> NDArray[np.float32]:
    session = InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, feed)[0] for feed in FEEDS])


def test_calibrated_is_what_enters_and_leaves_a_convolution() -> None:
    seen = calibrate(two_convolutions(), FEEDS)
    values = np.stack([feed["x"] for feed in FEEDS])
    first = seen["first.weight"]
    assert (first.low, first.high) == (values.min(), values.max())
    assert first.macs == 8 * 9 * 10 * 12
    assert seen["second.weight"].macs == 4 * 8 * 5 * 6
    assert seen["second.weight"].low == seen["first.weight"].made_low == 0  # behind the ReLU
    assert seen["second.weight"].high == seen["first.weight"].made_high
    made = run(two_convolutions())
    second = seen["second.weight"]
    np.testing.assert_allclose((second.made_low, second.made_high), (made.min(), made.max()))


@pytest.mark.parametrize("form", [quantise, quantise_for_gpu])
def test_int8_is_near_and_unbiased(form: Form) -> None:
    model = two_convolutions()
    seen = calibrate(model, FEEDS)
    assert convolutions(model) == ("first.weight", "second.weight")
    exact, got = run(model), run(form(model, seen, convolutions(model)))
    scale = exact.std()
    assert 0 < np.abs(got - exact).mean() < 0.05 * scale
    assert np.abs((got - exact).mean((0, 2, 3))).max() < 0.01 * scale


@pytest.mark.parametrize("form", [quantise, quantise_for_gpu])
def test_weights_are_those_that_were_rounded(form: Form) -> None:
    model = two_convolutions()
    calibrated = calibrate(model, FEEDS)
    graph = onnx.load_model_from_string(form(model, calibrated, convolutions(model))).graph
    found = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    for name in convolutions(model):
        values = found[f"{name}_quantized"]
        assert values.dtype == np.int8
        assert np.abs(values.astype(int)).max() <= LEVELS
        scale = found[f"{name}_scale"].reshape(-1, 1, 1, 1)
        np.testing.assert_allclose(values * scale, calibrated[name].rounded.values, rtol=1e-5)


def test_tensorrt_gets_symmetric_int8_and_biases_as_they_are() -> None:
    model = two_convolutions()
    graph = onnx.load_model_from_string(
        quantise_for_gpu(model, calibrate(model, FEEDS), convolutions(model))
    ).graph
    values = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    kinds = ("QuantizeLinear", "DequantizeLinear")
    zeros = [values[node.input[2]] for node in graph.node if node.op_type in kinds]
    assert zeros
    assert all(zero.dtype == np.int8 and not zero.any() for zero in zeros)
    convolved = [node for node in graph.node if node.op_type == "Conv"]
    assert all(values[node.input[2]].dtype == np.float32 for node in convolved)
    assert "Relu" in {node.op_type for node in graph.node}


def residual() -> bytes:
    """Two convolutions, the second's output added to the first's, and one of the sum."""
    rng = np.random.default_rng(5)
    names = ("first", "second", "third")
    weights = {f"{name}.weight": rng.normal(size=(8, 8, 1, 1)) for name in names}
    weights |= {"low": np.zeros(()), "high": np.full((), 6.0)}
    nodes = [
        helper.make_node("Conv", ["x", "first.weight"], ["a"], name="one"),
        helper.make_node("Clip", ["a", "low", "high"], ["b"], name="two"),
        helper.make_node("Conv", ["b", "second.weight"], ["c"], name="three"),
        helper.make_node("Add", ["b", "c"], ["d"], name="four"),
        helper.make_node("Conv", ["d", "third.weight"], ["z"], name="five"),
    ]
    return model_of(nodes, weights, ([1, 8, 10, 12], [1, 8, 10, 12]))


@pytest.mark.parametrize("make", [two_convolutions, residual])
def test_onnx_runtime_computes_chains_in_8_bits(make: Callable[[], bytes], tmp_path: Path) -> None:
    model, path = make(), tmp_path / "fused.onnx"
    quantised = quantise(model, calibrate(model, FEEDS), convolutions(model))
    options = SessionOptions()
    options.optimized_model_filepath = str(path)
    InferenceSession(quantised, options, providers=["CPUExecutionProvider"])
    kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    assert kinds["QLinearConv"] == len(convolutions(model))
    assert kinds["QLinearAdd"] == (make is residual)
    assert not {"Conv", "FusedConv", "Add", "Clip", "Relu"} & kinds.keys()
    assert kinds["QuantizeLinear"] == kinds["DequantizeLinear"] == 1, "at either end"


@pytest.mark.parametrize("form", [quantise, quantise_for_gpu])
def test_only_what_is_asked_for_is_quantised(form: Form) -> None:
    model = two_convolutions()
    quantised = form(model, calibrate(model, FEEDS), ["second.weight"])
    names = {one.name for one in onnx.load_model_from_string(quantised).graph.initializer}
    assert "first.weight" in names
    assert "second.weight" not in names


@pytest.mark.parametrize("at_once", [1, 2, 5, 8])
def test_what_errs_most_for_its_time_stays_in_fp32(at_once: int) -> None:
    seconds = {f"{index}.weight": 10.0 for index in range(32)}
    parts = [(f"{index}.weight", f"{index + 1}.weight") for index in range(0, 32, 2)]
    seconds["31.weight"] = 1000.0
    harmful = {"3.weight": 0.05, "17.weight": 0.01, "31.weight": 0.04}

    def iou(weights: frozenset[str]) -> float:
        return 1 - sum(harm for name, harm in harmful.items() if name in weights)

    chosen = partial(choose, at_once=at_once)
    choice = chosen(parts, seconds, iou, [iou], target=0.945)
    assert "3.weight" in choice.kept_fp32
    assert not {"17.weight", "31.weight"} & set(choice.kept_fp32)
    assert choice.iou == pytest.approx(0.95)
    assert choice.weights.isdisjoint(choice.kept_fp32)
    assert len(choice.weights) + len(choice.kept_fp32) == 32
    assert chosen(parts, seconds, iou, [lambda weights: 0.5], target=0.95).weights == frozenset()
    # What another engine loses stays in fp32 too, and no more is followed on it than that takes.
    followed = []

    def other(weights: frozenset[str]) -> float:
        followed.append(weights)
        return 0.96 - 0.02 * ("31.weight" in weights)

    choice = chosen(parts, seconds, iou, [iou, other], target=0.945)
    assert {"3.weight", "31.weight"} <= set(choice.kept_fp32)
    assert choice.iou == pytest.approx(0.95)
    followed.clear()
    assert chosen(parts, seconds, iou, [iou, other], target=0.92).iou == pytest.approx(0.94)
    assert len(followed) == 1


def test_one_harmful_convolution_keeps_no_other_in_floating_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = [f"{index}.weight" for index in range(32)]
    harmful = {"5.weight": 0.05, "6.weight": 0.002, "20.weight": 0.001}
    in_bf16 = 0.006

    def quick_iou(self: Int8Search, weights: frozenset[str]) -> float:
        return 1 - sum(harmful.get(name, 0) for name in weights)

    def full_iou(self: Int8Search, load: object, target: float, weights: frozenset[str]) -> float:
        return self.quick_iou(weights) - in_bf16

    monkeypatch.setattr(Int8Search, "_seconds", lambda self: dict.fromkeys(names, 1.0))
    monkeypatch.setattr(Int8Search, "quick_iou", quick_iou)
    monkeypatch.setattr(Int8Search, "full_iou", full_iou)
    search = Int8Search(b"graph", {}, [None], None, None, parts=4, quick_frames=1)  # type: ignore[arg-type, list-item]
    choice = search.run(0.98)
    assert choice.kept_fp32 == ("5.weight",)
    assert choice.iou == pytest.approx(1 - in_bf16 - 0.003)
    assert len(choice.solo_iou) == 3 + 8, "the part with the harm was taken apart"
    assert search.run(0.94).kept_fp32 == ()
    nothing = search.run(0.9999)
    assert nothing.weights == frozenset()


@pytest.mark.parametrize(("size", "threads"), [(1, 1), (40, 2), (100, 4), (1000, 4)])
def test_large_graphs_are_not_tried_at_once(
    size: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("s2svos_export.side_by_side.cpu_count", lambda: 4)
    monkeypatch.setattr("s2svos_export.side_by_side.MOST_BYTES", 100)
    monkeypatch.setattr(Int8Search, "_seconds", lambda self: {"a.weight": 1.0, "b.weight": 1.0})
    used = set()

    def load(weights: frozenset[str], threads: int | None) -> None:
        used.add(threads)

    class Reference:
        def soft_iou(self, engine: None, *, frames: int) -> float:
            return 1.0

        def iou(self, engine: None, *, target: float) -> float:
            return 1.0

    Int8Search(b"x" * size, {}, [load], load, [Reference()], quick_frames=1).run(0.98)  # type: ignore[arg-type, list-item]
    assert used == {threads}


def test_int8_is_chosen_on_every_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    times = dict.fromkeys(("a.weight", "b.weight", "c.weight"), 1.0)
    monkeypatch.setattr(Int8Search, "_seconds", lambda self: times)

    class Reference:
        """A clip on which one convolution does harm."""

        def __init__(self, harmful: str) -> None:
            self.harmful = harmful

        def soft_iou(self, taken: frozenset[str], *, frames: int) -> float:
            return 0.9 if self.harmful in taken else 1.0

        def iou(self, taken: frozenset[str], *, target: float) -> float:
            return self.soft_iou(taken, frames=0)

    def load(weights: frozenset[str], threads: int | None) -> frozenset[str]:
        return weights

    def chosen(*harmful: str) -> frozenset[str]:
        clips = [Reference(one) for one in harmful]
        search = Int8Search(b"graph", {}, [load], load, clips, quick_frames=1)  # type: ignore[arg-type, list-item]
        return search.run(0.98).weights

    assert chosen("a.weight") == {"b.weight", "c.weight"}
    assert chosen("a.weight", "c.weight") == {"b.weight"}


def test_errors_add_up_by_their_squares() -> None:
    losses = {"large": 0.01, **{f"small {index}": 0.002 for index in range(10)}}
    seconds = {name: 1.0 if name == "large" else 0.1 for name in losses}

    def iou(weights: frozenset[str]) -> float:
        return float(1 - np.sqrt(sum(losses[name] ** 2 for name in weights)))

    # For its time each small one loses twice as much, and yet hardly adds to the others.
    choice = choose([(name,) for name in losses], seconds, iou, [iou], target=0.99)
    assert choice.kept_fp32 == ("large",)
    assert choice.iou == pytest.approx(1 - 0.002 * np.sqrt(10))


class Masks:
    """An engine whose masks cover a share of the frame that fades from frame to frame."""

    contract = CONTRACT

    def __init__(self, fading: int) -> None:
        self.fading, self.steps, self.inits = fading, 0, 0

    def init(self, frame, masks):  # type: ignore[no-untyped-def]
        self.inits += 1
        return []

    def runner(self, states):  # type: ignore[no-untyped-def]
        return self

    def step(self, frame):  # type: ignore[no-untyped-def]
        self.steps += 1
        mask = np.zeros((1, 32, 32), np.uint8)
        mask[:, self.fading * self.steps :] = 255
        return mask


def test_a_trial_ends_when_its_target_is_out_of_reach() -> None:
    clip = [(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8))] * 11
    reference = ReferenceRun(Masks(0), clip, frames=10)  # type: ignore[arg-type]
    followed, given_up, short = Masks(1), Masks(1), Masks(1)
    # A 32nd less on every frame: 1/32 is lost on the first, 2/32 on the second.
    assert reference.iou(followed, target=0.8) == pytest.approx(1 - 55 / 320)  # type: ignore[arg-type]
    assert followed.steps == 10
    assert reference.iou(given_up, target=0.95) < 0.95  # type: ignore[arg-type]
    assert given_up.steps == 6  # (1 + ... + 6) / 320 > 0.05
    assert reference.soft_iou(short, frames=4) == pytest.approx(1 - 10 / 128)  # type: ignore[arg-type]
    assert followed.inits == given_up.inits == 0


def test_soft_iou_sees_what_crosses_no_threshold() -> None:
    class Faint(Masks):
        def step(self, frame):  # type: ignore[no-untyped-def]
            return super().step(frame) // 255 * self.level

        def __init__(self, level: int) -> None:
            super().__init__(0)
            self.level = level

    clip = [(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8))] * 4
    reference = ReferenceRun(Faint(200), clip, frames=3)  # type: ignore[arg-type]
    assert reference.iou(Faint(150)) == 1  # type: ignore[arg-type]
    assert reference.soft_iou(Faint(150), frames=3) == pytest.approx(0.75)  # type: ignore[arg-type]
    empty = ReferenceRun(Faint(0), clip, frames=3)  # type: ignore[arg-type]
    assert empty.soft_iou(Faint(0), frames=3) == 1  # type: ignore[arg-type]


def test_the_manifest_keeps_its_names() -> None:
    choice = Int8Choice(frozenset("ba"), ("c",), {"a .. b": 1.0, "c .. c": 0.5}, 0.99)
    assert choice.to_json() == {
        "weights": ["a", "b"],
        "spared": ["c"],
        "alone": {"a .. b": 1.0, "c .. c": 0.5},
        "iou": 0.99,
    }


@pytest.mark.parametrize("form", [quantise, quantise_for_gpu])
def test_nothing_to_quantise_leaves_the_graph_as_it_is(form: Form) -> None:
    model = two_convolutions()
    assert form(model, calibrate(model, FEEDS), []) == model


def test_parts_gain_alike_and_follow_each_other_in_the_graph() -> None:
    assert split(dict.fromkeys("abcd", 1.0), 2) == [("a", "b"), ("c", "d")]
    assert split({"a": 1.0, "b": 1.0, "c": 6.0, "d": 2.0}, 2) == [("a", "b"), ("c", "d")]
    assert split({"a": 6.0, "b": 1.0, "c": 1.0}, 4) == [("a",), ("b", "c")]
    assert split(dict.fromkeys("ab", 1.0), 8) == [("a",), ("b",)]
    assert split({}, 8) == []


def test_short_clips_are_refused() -> None:
    class Still:
        contract = CONTRACT

        def init(self, frame, masks):  # type: ignore[no-untyped-def]
            return [np.zeros((1, 1), np.float32)]

        def runner(self, states):  # type: ignore[no-untyped-def]
            return self

        def states(self):  # type: ignore[no-untyped-def]
            return [np.zeros((1, 1), np.float32)]

        def step(self, frame) -> None:  # type: ignore[no-untyped-def]
            pass

    clip = [(np.zeros((32, 32, 3), np.uint8), np.ones((32, 32), np.uint8))] * 10
    with pytest.raises(UserError, match="--calibrate"):
        calibration_samples(Still(), [clip])  # type: ignore[arg-type]


def test_shared_weights_are_kept_once_and_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(size=(64, 64))
    nodes = [
        helper.make_node("MatMul", ["x", "common"], ["y"]),
        helper.make_node("MatMul", ["y", "own"], ["z"]),
    ]
    models = {
        name: model_of(
            nodes, {"common": common, "own": np.full((64, 64), own)}, ([1, 64], [1, 64]), name
        )
        for name, own in (("init", 1.0), ("step", 2.0))
    }
    path = tmp_path / "x.s2s"
    (shared,) = share_weights({"fp32": models})
    write_bundle(path, contract=CONTRACT, graphs=shared, facts={})
    whole = sum(map(len, models.values()))
    assert path.stat().st_size < whole - common.size * 4 + 3000
    x = {"x": rng.normal(size=(1, 64)).astype(np.float32)}
    for name, data in models.items():
        again = Bundle.open(path).graph(name)
        onnx.checker.check_model(onnx.load_model_from_string(again))
        one, other = (
            InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, x)[0]
            for model in (data, again)
        )
        np.testing.assert_array_equal(one, other)
