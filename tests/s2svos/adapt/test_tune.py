"""Online learning, from the first frame to the command line."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from small_bundle import HEIGHT, WIDTH, small_bundle

import s2svos
from s2svos.adapt import tune as module
from s2svos.adapt.config import AdaptConfig, AdaptProgress
from s2svos.adapt.network import BundleNetwork
from s2svos.adapt.synthesis import FirstFrame
from s2svos.adapt.tune import adapt, tune
from s2svos.commands.demo_run import write_video
from s2svos.inference.run import infer
from s2svos.sample.render import render
from s2svos.video.masks import davis_palette, read_first_mask, write_mask
from s2svos.video.reader import Video
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.tracker import Tracker

QUICK = AdaptConfig(steps=3, learning_rate=1e-3, length=2)
Clip = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=6, height=90, width=140))


def labels(tracker: Tracker, clip: Clip) -> NDArray[np.uint8]:
    stream = tracker.open(*clip[0])
    return np.stack([stream.step(frame) for frame, _ in clip[1:]])


def weights(network: BundleNetwork) -> dict[str, torch.Tensor]:
    return {name: weight.detach().clone() for name, weight in network.weights.items()}


def test_everything_but_the_convlstm_is_tuned(bundle: Bundle, clip: Clip) -> None:
    network = BundleNetwork(bundle)
    before = weights(network)
    seen: list[AdaptProgress] = []
    tune(network, FirstFrame(*clip[0], (HEIGHT, WIDTH)), QUICK, seen.append)
    for name, weight in network.weights.items():
        assert torch.equal(weight, before[name]) == (name in network.recurrent), name
        assert not weight.requires_grad
    assert [now.step for now in seen] == [1, 2, 3]
    assert all(now.steps == 3 and now.seconds > 0 for now in seen)
    assert seen[0].seconds_left > seen[-1].seconds_left == 0


def test_the_bundle_that_ships_learns() -> None:
    """The same invented clip again and again, which it must fit better and better."""
    network = BundleNetwork(Bundle.open(s2svos.default_bundle()))
    size = (network.contract.height, network.contract.width)
    once = FirstFrame(*next(iter(render(length=2))), size).sample(np.random.default_rng(5), 2)
    losses: list[float] = []
    tune(
        network,
        SimpleNamespace(sample=lambda *_: once),  # type: ignore[arg-type]
        AdaptConfig(steps=6, learning_rate=5e-4, length=2),
        lambda now: losses.append(now.loss),
    )
    assert losses[-1] < 0.85 * losses[0]


def test_the_bundle_that_ships_is_tuned_without_a_change_to_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two objects; the tuned tracker follows others that enter late, too."""
    monkeypatch.setattr(module, "VIEWS", 1)
    clip = list(render(length=4))
    tracker = s2svos.load(threads=1)
    before = labels(tracker, clip)
    tuned, done = adapt(tracker, *clip[0], config=replace(QUICK, learning_rate=1e-4), threads=1)
    assert np.array_equal(labels(tracker, clip), before)
    assert done.objects == 2 and done.used == (done.after > done.before) == (tuned is not tracker)
    assert (done.steps, done.length, done.learning_rate) == (3, 2, 1e-4)
    assert done.seconds > 0 and 0 < done.before <= 1 and 0 < done.after <= 1
    frame, ids = clip[0]
    stream = tuned.open(frame, np.where(ids == 2, ids, 0).astype(np.uint8))
    stream.step(clip[1][0])
    stream.add(clip[1][0], np.where(clip[1][1] == 1, 1, 0).astype(np.uint8))
    assert set(np.unique(stream.step(clip[2][0]))) <= {0, 1, 2}


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_the_tuned_weights_run_on_the_same_engine(
    bundle: Bundle, clip: Clip, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """What was tuned in PyTorch and what the engine then runs are the same numbers."""
    kept: list[BundleNetwork] = []

    def push(network: BundleNetwork, *rest: object) -> None:
        kept.append(network)
        tune(network, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "tune", push)
    scores = iter([0.1, 0.2])
    monkeypatch.setattr(module, "_mean_jaccard", lambda *_: next(scores))
    tracker = Tracker.load(bundle.path, engine=engine, threads=1)
    tuned, done = adapt(tracker, *clip[0], config=QUICK, threads=1)
    assert (done.before, done.after, done.used) == (0.1, 0.2, True)
    assert tuned.engine_name == engine and tuned.bundle is tracker.bundle
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    masks = rng.integers(0, 256, (2, HEIGHT, WIDTH), np.uint8)
    found = tuned.engine.init(frame, masks)
    own = tracker.engine.init(frame, masks)
    expected = kept[0].init(torch.from_numpy(frame), torch.from_numpy(masks))
    for a, b, c in zip(found, expected, own, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-3, atol=1e-5)
        assert not np.allclose(a, c, rtol=1e-3, atol=1e-5)


def test_weights_that_are_not_better_are_not_used(
    bundle: Bundle, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "tune", lambda *_: None)
    tracker = Tracker.load(bundle.path, threads=1)
    tuned, done = adapt(tracker, *clip[0], config=QUICK)
    assert tuned is tracker and not done.used and done.after == done.before


def test_tuning_that_diverges_says_so(bundle: Bundle, clip: Clip) -> None:
    tracker = Tracker.load(bundle.path, threads=1)
    with pytest.raises(UserError, match=r"diverged at step \d+.*lower --adapt-rate"):
        adapt(tracker, *clip[0], config=AdaptConfig(steps=9, learning_rate=1e30, length=2))


def test_the_same_seed_tunes_to_the_same_weights(bundle: Bundle, clip: Clip) -> None:
    results = []
    for seed in (1, 1, 2):
        network = BundleNetwork(bundle)
        source = FirstFrame(*clip[0], (HEIGHT, WIDTH))
        tune(network, source, replace(QUICK, seed=seed))
        results.append(weights(network))
    first, again, other = results
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.fixture
def video(tmp_path: Path, clip: Clip) -> Path:
    write_video(tmp_path / "clip.mp4", [frame for frame, _ in clip])
    write_mask(tmp_path / "first.png", clip[0][1], davis_palette())
    return tmp_path / "clip.mp4"


def command(video: Path, *arguments: str, python: str = "") -> subprocess.CompletedProcess[str]:
    code = f"{python}\nfrom s2svos.cli import main\nmain()"
    line = [sys.executable, "-c", code, "infer", video.name, "--mask", "first.png", *arguments]
    return subprocess.run(line, cwd=video.parent, capture_output=True, text=True, timeout=600)


def test_the_command_tunes_and_tells_its_price(video: Path, bundle: Bundle) -> None:
    options = ["--bundle", str(bundle.path), "-o", "out", "--threads", "1", "--no-overlay"]
    run = command(video, *options, "--adapt", "--adapt-steps", "2", "--adapt-rate", "0.001")
    assert run.returncode == 0, run.stderr
    assert "Tuned to the first frame in" in run.stdout and "2 steps, " in run.stdout
    facts = json.loads((video.parent / "out" / "run.json").read_text())
    adapted = facts["adapted"]
    assert (adapted["steps"], adapted["learning_rate"], adapted["objects"]) == (2, 0.001, 2)
    assert 0 < adapted["seconds"] < facts["seconds"]["total"]
    assert f"J on views invented from it {adapted['before']:.3f} before" in run.stdout
    assert ("own weights were kept" in run.stdout) == (not adapted["used"])
    assert facts["bundle_sha256"] == bundle.sha256
    assert len(list((video.parent / "out" / "masks").iterdir())) == 6
    run = command(video, *options, "--overwrite")
    assert run.returncode == 0, run.stderr
    assert "Tuned" not in run.stdout
    assert json.loads((video.parent / "out" / "run.json").read_text())["adapted"] is None


@pytest.mark.parametrize("missing", ["torch", "onnx"])
def test_without_the_extra_one_sentence_says_what_to_install(video: Path, missing: str) -> None:
    run = command(
        video, "--adapt", "-o", "out", python=f"import sys; sys.modules['{missing}'] = None"
    )
    assert run.returncode == 2
    assert f"{missing} is not installed" in run.stderr and "s2svos[train]" in run.stderr
    assert "Traceback" not in run.stderr and not (video.parent / "out").exists()


def test_a_rate_that_is_no_rate_is_refused(video: Path) -> None:
    run = command(video, "--adapt", "--adapt-rate", "0")
    assert run.returncode == 2 and "--adapt-rate" in run.stderr


@pytest.mark.parametrize("error", [KeyboardInterrupt(), UserError("diverged")])
def test_a_run_that_ends_while_tuning_leaves_nothing(
    video: Path, bundle: Bundle, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    opened = Video(video)
    first = read_first_mask(video.parent / "first.png", size=(opened.height, opened.width))
    with pytest.raises(type(error)):
        infer(
            opened,
            first,
            lambda: Tracker.load(bundle.path, threads=1),
            out=video.parent / "out",
            adapt=fail,  # type: ignore[arg-type]
        )
    assert sorted(path.name for path in video.parent.iterdir()) == ["clip.mp4", "first.png"]


def test_the_tuned_bundle_tells_its_origin(
    bundle: Bundle, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is gone once its engine is loaded, so it is caught on its way there."""
    caught: list[Bundle] = []
    weight: list[NDArray[np.float32]] = []

    def load(tuned: Bundle, name: str, threads: int | None) -> None:
        caught.append(tuned)
        model = onnx.load_from_string(tuned.graph("step"))
        weight.extend(
            numpy_helper.to_array(t)
            for t in model.graph.initializer
            if t.name.endswith("logits.bias")
        )
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "load_engine", load)
    scores = iter([0.1, 0.2])
    monkeypatch.setattr(module, "_mean_jaccard", lambda *_: next(scores))
    tracker = Tracker.load(bundle.path, threads=1)
    with pytest.raises(UserError, match=r"No space left on device.*TMPDIR"):
        adapt(tracker, *clip[0], config=QUICK)
    manifest = caught[0].manifest
    assert manifest.adapted["bundle"] == bundle.sha256 and manifest.adapted["steps"] == 3
    assert manifest.network == bundle.manifest.network and not manifest.parity
    assert len(weight) == 1 and not caught[0].path.exists()
