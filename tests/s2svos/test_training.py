import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from s2svos.data.clips import LEAST_SHARE, Clip, Mixture, MovingStills, RealClips
from s2svos.data.dataset import ClipDataset, Phase, batches
from s2svos.data.sources import Sequence, Still, davis_sequences, stills
from s2svos.demo.render import render
from s2svos.network.checkpoint import read_checkpoint
from s2svos.network.config import LiteConfig, NetworkConfig, PaperConfig
from s2svos.training import trainer as trainer_module
from s2svos.training.config import TrainConfig, default_config
from s2svos.training.loss import hard_cross_entropy, jaccard, soft_dice
from s2svos.training.trainer import Progress, Trainer, rate_at
from s2svos_engines.errors import UserError


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    clip = list(render(length=14, height=90, width=160))
    frames, ids = zip(*clip, strict=True)
    sequence = Sequence("rendered", frames, tuple((m == 1).astype(np.uint8) for m in ids))
    pictures = [Still(frames[0], ids[0], (1, 2)), Still(frames[9], ids[9], (1, 2))]
    return Mixture([(RealClips([sequence]), 0.5), (MovingStills(pictures), 0.5)])


def test_clips_show_their_object_and_depend_on_the_seed_alone(mixture: Mixture) -> None:
    phase = Phase(5, 4, 5, 64, 112)
    dataset = ClipDataset(mixture, phase, seed=3, first=0)
    assert len(dataset) == 20
    for i in range(20):
        clip = dataset[i]
        assert clip.frames.shape == (5, 64, 112, 3)
        assert clip.masks.shape == (5, 64, 112)
        assert clip.masks[0].mean() > 255 * LEAST_SHARE
        assert clip.frames.dtype == clip.masks.dtype == np.uint8
    resumed = ClipDataset(mixture, phase, seed=3, first=8)
    assert (resumed[2].frames == dataset[10].frames).all()
    assert (ClipDataset(mixture, phase, seed=4, first=0)[10].frames != dataset[10].frames).any()


def test_masks_move_with_their_object() -> None:
    """A red square on green: wherever the mask is, the frame must be redder than elsewhere."""
    frame = np.zeros((80, 120, 3), np.uint8)
    frame[..., 1] = 200
    frame[20:60, 40:80] = (250, 0, 0)
    mask = np.zeros((80, 120), np.uint8)
    mask[20:60, 40:80] = 1
    sequence = Sequence("square", (frame,) * 8, (mask,) * 8)
    other = Still(np.full((80, 120, 3), (0, 200, 0), np.uint8), mask, (1,))
    sources = [RealClips([sequence]), MovingStills([Still(frame, mask, (1,)), other])]
    for seed in range(20):
        source = sources[seed % 2]
        clip = source.sample(np.random.default_rng(seed), 4, 64, 112)
        for one, truth in zip(clip.frames, clip.masks, strict=True):
            red = one[..., 0].astype(int) - one[..., 1]
            inside, outside = red[truth > 250], red[truth < 5]
            if seed % 2 == 0 and inside.size and outside.size:
                assert inside.mean() > outside.mean()


def test_batches_go_on_where_they_stopped(mixture: Mixture) -> None:
    phase = Phase(3, 2, 4, 32, 64)
    whole = list(batches(mixture, phase, seed=1, done=0, workers=0))
    rest = list(batches(mixture, phase, seed=1, done=1, workers=1))
    assert len(whole) == 3
    assert len(rest) == 2
    assert whole[0][0].shape == (4, 2, 3, 32, 64)
    assert whole[0][1].shape == (4, 2, 1, 32, 64)
    for (a, b), (c, d) in zip(whole[1:], rest, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_losses_by_hand() -> None:
    logits = torch.tensor([0.0, 0.0, 9.0, -9.0]).view(1, 1, 1, 2, 2)
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 1, 2, 2)
    assert hard_cross_entropy(logits, target, 0.5).item() == pytest.approx(np.log(2), rel=1e-4)
    assert hard_cross_entropy(logits, target, 1.0).item() == pytest.approx(np.log(2) / 2, rel=1e-3)
    assert soft_dice(logits * 99, target).item() == pytest.approx(1 - (2 * 1.5 + 1) / 5, abs=1e-3)
    assert jaccard(logits - 1, target) == pytest.approx(0.5)
    assert jaccard(-torch.ones(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)) == 1


def test_learning_rate_rises_and_falls_to_zero() -> None:
    rates = [rate_at(t / 100, 0.1) for t in range(101)]
    assert max(rates) == rates[10] == 1
    assert rates[-1] == pytest.approx(0)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_steps_are_shared_by_the_phases() -> None:
    assert default_config("lite", steps=None, seed=1) == TrainConfig()
    for steps in (2, 20, 333):
        assert default_config("lite", steps=steps, seed=1).steps == steps
    assert default_config("paper", steps=7, seed=2).phases[0].steps == 7


NETWORKS: list[NetworkConfig] = [
    LiteConfig(32, 64, hidden=8, key=8),
    PaperConfig(32, 64, channels=8, fc_channels=8, vgg_width=0.05),
]


def trainer(network: NetworkConfig, mixture: Mixture, out: Path, steps: int = 9) -> Trainer:
    config = replace(TrainConfig(), phases=(Phase(steps - 2, 1, 3, 32, 64), Phase(2, 1, 3, 64, 64)))
    return Trainer(
        network_config=network,
        config=config,
        source=mixture,
        out=out,
        prepare=lambda built: None,
        facts={"data": "rendered"},
        workers=0,
    )


@pytest.mark.parametrize("network", NETWORKS, ids=lambda c: c.preset)
def test_a_stopped_run_goes_on_to_the_same_weights(
    network: NetworkConfig, mixture: Mixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "CHECKPOINT_EVERY", 3)
    whole = trainer(network, mixture, tmp_path / "whole").run(lambda progress: None)

    def stop(progress: Progress) -> None:
        if progress.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer(network, mixture, tmp_path / "parts").run(stop)
    assert not (tmp_path / "parts" / "final.pt").exists()
    resumed = trainer(network, mixture, tmp_path / "parts").run(lambda progress: None, resume=True)
    a, b = read_checkpoint(whole), read_checkpoint(resumed)
    for key, value in a["weights"].items():
        assert torch.equal(value, b["weights"][key]), key
    assert a["facts"]["steps"] == 9
    assert a["facts"]["data"] == "rendered"
    with (tmp_path / "parts" / "history.csv").open(newline="") as file:
        assert [int(row["step"]) for row in csv.DictReader(file)] == list(range(1, 10))


def test_a_network_learns_a_clip(tmp_path: Path) -> None:
    """The default design, from scratch, fits a clip that it sees again and again."""

    class Same:
        def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
            masks = np.zeros((length, height, width), np.uint8)
            for t, mask in enumerate(masks):
                cv2.circle(mask, (30 + 10 * t, 30 + 2 * t), 20, 255, -1)
            frames = np.where(masks[..., None] > 0, (240, 90, 30), (30, 90, 120)).astype(np.uint8)
            return Clip(frames, masks)

    config = replace(TrainConfig(), phases=(Phase(100, 1, 3, 64, 112),), hardest=1.0)
    seen: list[Progress] = []
    Trainer(
        network_config=LiteConfig(64, 112, hidden=16, key=16),
        config=config,
        source=Same(),
        out=tmp_path,
        prepare=lambda built: None,
        facts={},
        workers=0,
    ).run(seen.append)
    first, last = seen[:10], seen[-20:]
    assert np.mean([p.loss for p in last]) < 0.6 * np.mean([p.loss for p in first])
    assert np.mean([p.jaccard for p in last]) > 0.8


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "set"
    folder.mkdir()
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 10:30] = 2
    mask[0, 0] = 5  # too small to be followed
    for name in ("a", "b"):
        cv2.imwrite(str(folder / f"{name}.jpg"), rng.integers(0, 256, (40, 60, 3), dtype=np.uint8))
        cv2.imwrite(str(folder / f"{name}.png"), mask)
    yield tmp_path


def test_stills_are_read_with_their_objects(pictures: Path) -> None:
    found = stills(pictures)
    assert [still.objects for still in found] == [(2,), (2,)]


def test_data_mistakes_are_named(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"train\.txt is missing"):
        davis_sequences(tmp_path, "train")
    (pictures / "set" / "a.jpg").write_text("no picture")
    with pytest.raises(UserError, match=r"a\.jpg"):
        stills(pictures)
    with pytest.raises(UserError, match="no pictures with masks"):
        stills(tmp_path / "nowhere")
