"""The TensorRT engine on a stand-in for TensorRT and the GPU; no GPU is needed, none is proven."""

import sys
from pathlib import Path

import gpu_stand_in
import numpy as np
import pytest
import tensorrt_stand_in as stand_in
from numpy.typing import NDArray

import s2svos
from s2svos.sample.render import render
from s2svos_engines import registry
from s2svos_engines.bundle import Bundle, add_plans
from s2svos_engines.contract import Counts
from s2svos_engines.cuda import device
from s2svos_engines.cuda import engine as cuda_engine
from s2svos_engines.errors import UserError
from s2svos_engines.registry import GPU_ENGINES, load_engine
from s2svos_engines.tensorrt import builder as tensorrt_builder
from s2svos_engines.tensorrt import engine as tensorrt_engine
from s2svos_engines.tensorrt import plan_cache
from s2svos_engines.tensorrt.engine import TensorRtEngine
from s2svos_engines.tensorrt.plans import Target
from s2svos_engines.tracker import Tracker

Clip = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=6))


@pytest.fixture(autouse=True)
def library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Puts the stand-in in place; the titles of the plans that are built with it."""
    built: list[str] = []

    def build_plan(model: bytes, *_: object, title: str, max_objects: int) -> bytes:
        built.append(f"{title} for {max_objects}")
        return model

    for module in (tensorrt_builder, tensorrt_engine):
        monkeypatch.setattr(module, "load_library", lambda name: stand_in.Library)
    monkeypatch.setattr(cuda_engine, "Gpu", gpu_stand_in.Gpu)
    monkeypatch.setattr(tensorrt_engine, "library_log", lambda name: None)
    monkeypatch.setattr(plan_cache, "build_target", lambda name: stand_in.TARGET)
    monkeypatch.setattr(plan_cache, "build_plan", build_plan)
    for name, module in gpu_stand_in.MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return built


def load(bundle: Bundle | None = None) -> TensorRtEngine:
    return TensorRtEngine(bundle or Bundle.open(s2svos.default_bundle()), threads=1)


def follow(tracker: Tracker, clip: Clip) -> list[NDArray[np.uint8]]:
    stream = tracker.open(*clip[0])
    return [stream.step(frame).copy() for frame, _ in clip[1:]]


def test_follows_as_onnx_runtime_does(clip: Clip) -> None:
    tracker = Tracker(Bundle.open(s2svos.default_bundle()), load())
    expected = follow(s2svos.load(engine="onnxruntime"), clip)
    for one, other in zip(follow(tracker, clip), expected, strict=True):
        assert (one != other).mean() < 1e-3


def test_streams_do_not_disturb_each_other_and_objects_come_and_go(clip: Clip) -> None:
    trackers = [
        Tracker(Bundle.open(s2svos.default_bundle()), load()),
        s2svos.load(engine="onnxruntime"),
    ]
    frames = [frame for frame, _ in clip]
    mask = clip[0][1]

    def run(tracker: Tracker) -> list[NDArray[np.uint8]]:
        first = tracker.open(frames[0], np.where(mask == 1, mask, 0))
        second = tracker.open(frames[0], mask)
        labels = []
        for t, frame in enumerate(frames[1:]):
            labels += [first.step(frame).copy(), second.step(frame).copy()]
            if t == 2:
                first.add(frame, np.where(clip[t + 1][1] == 2, clip[t + 1][1], 0))
                second.remove(1)
        return labels

    ours, expected = map(run, trackers)
    for one, other in zip(ours, expected, strict=True):
        assert (one != other).mean() < 1e-3


def test_states_come_back_as_they_were_loaded(clip: Clip) -> None:
    engine = load()
    contract = engine.contract
    rng = np.random.default_rng(0)
    specs = [state.input for state in contract.states]
    states = [rng.random(spec.sizes(Counts(objects=3)), np.float32) for spec in specs]
    runner = engine.runner(states)
    frame = rng.integers(0, 256, contract.frame.shape, dtype=np.uint8)
    first = runner.step(frame).copy()
    assert first.shape == (3, contract.height, contract.width)
    assert any((a != b).any() for a, b in zip(runner.states(), states, strict=True))
    runner.load(states)
    for got, state in zip(runner.states(), states, strict=True):
        assert (got == state).all()
    assert (runner.step(frame) == first).all()


def test_plans_are_built_once_and_kept(library: list[str], tmp_path: Path) -> None:
    bundle = Bundle.open(s2svos.default_bundle())
    load(bundle)
    assert library == ["lite init fp32 for 8", "lite step fp32 for 8"]
    load(bundle)
    assert len(library) == 2
    load(bundle).plan("step", 11)
    assert library[2:] == ["lite step fp32 for 16"]
    kept = tmp_path / "cache" / "s2svos" / "plans"
    (step,) = kept.glob("*-step.s2s")
    step.write_bytes(step.read_bytes()[:-1])
    load(bundle)
    assert library[3:] == ["lite step fp32 for 8"], "a damaged plan is built again"
    assert len(list(kept.iterdir())) == 2, "nothing is left beside them"


def test_a_bundle_with_plans_of_another_gpu_is_not_touched(
    library: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "x.s2s"
    path.write_bytes(s2svos.default_bundle().read_bytes())
    bundle = Bundle.open(path)
    other = Target("tensorrt", "11.0.0", ("8.0",), "NVIDIA A100", "1.2.3")
    plan = plan_cache.new_plan(bundle, "init", "fp32", other)
    add_plans(path, [(plan.to_json(), b"never to be loaded")])
    with pytest.raises(UserError, match=rf"A100.*s2svos export {path} --plan tensorrt"):
        load(Bundle.open(path))
    assert not library


def test_a_plan_that_does_not_load_says_how_to_rebuild_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stand_in.Library.Runtime, "deserialize_cuda_engine", lambda *_: None)
    with pytest.raises(UserError, match="rebuild it with s2svos export"):
        load()


@pytest.mark.skipif(registry.gpu_count() > 0, reason="there is a GPU here")
@pytest.mark.parametrize("name", GPU_ENGINES)
def test_without_a_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(cuda_engine, "Gpu", device.Gpu)
    monkeypatch.setattr(registry, "is_installed", lambda _: True)
    with pytest.raises(UserError, match=r"No NVIDIA GPU.*--engine openvino or onnxruntime"):
        load_engine(Bundle.open(s2svos.default_bundle()), name)
