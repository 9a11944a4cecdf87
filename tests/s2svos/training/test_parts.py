import csv
import random
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from s2svos.data.config import DataConfig, DataKind
from s2svos.network.checkpoint import build
from s2svos.network.config import LiteConfig, NetworkConfig, PaperConfig
from s2svos.network.efficientnet import EfficientNet
from s2svos.sample.render import render
from s2svos.training.config import DivergenceConfig, LossConfig
from s2svos.training.config_file import load_config, with_data
from s2svos.training.distributed import random_state, set_random_state
from s2svos.training.divergence import SUSPECT_AFTER, Divergence
from s2svos.training.loss import (
    hard_cross_entropy,
    jaccard,
    near_border,
    soft_dice,
    training_loss,
)
from s2svos.training.optim import EMA
from s2svos.training.run_log import COLUMNS, Records, Step, draw_curves
from s2svos.training.step import Rollout
from s2svos.training.validation import Video, score_video, validation_videos
from s2svos_engines.errors import UserError

NETWORKS: list[NetworkConfig] = [
    LiteConfig(32, 64, hidden=8, first_key=16, last_key=8),
    PaperConfig(32, 64, channels=8, fc_channels=8, vgg_width=0.05),
]


def test_losses_by_hand() -> None:
    logits = torch.tensor([0.0, 0.0, 9.0, -9.0]).view(1, 1, 1, 2, 2)
    target = torch.tensor([1.0, 0.0, 1.0, 0.0]).view(1, 1, 1, 2, 2)
    assert hard_cross_entropy(logits, target, 0.5).mean().item() == pytest.approx(
        np.log(2), rel=1e-4
    )
    assert hard_cross_entropy(logits, target, 1.0).mean().item() == pytest.approx(
        np.log(2) / 2, rel=1e-3
    )
    assert soft_dice(logits * 99, target).item() == pytest.approx(1 - (2 * 1.5 + 1) / 5, abs=1e-3)
    assert jaccard(logits - 1, target).item() == pytest.approx(0.5)
    assert jaccard(-torch.ones(1, 1, 1, 2, 2), torch.zeros(1, 1, 1, 2, 2)).item() == 1


def test_loss_is_a_mean_over_clips_and_bootstraps() -> None:
    torch.manual_seed(0)
    logits, target = torch.randn(3, 4, 1, 8, 8), torch.rand(3, 4, 1, 8, 8)
    config = LossConfig(bootstrap_ratio=0.25, bootstrap_steps=0.5, dice=0.5, border=1.0)
    whole = training_loss(logits, target, config, 0.7)
    parts = [training_loss(logits[:, i:][:, :2], target[:, i:][:, :2], config, 0.7) for i in (0, 2)]
    assert torch.stack(parts).mean().item() == pytest.approx(whole.item(), rel=1e-6)
    by_time = [training_loss(logits, target, config, done).item() for done in (0, 0.2, 0.5, 1)]
    assert by_time[0] < by_time[1] < by_time[2] == by_time[3]
    plain = training_loss(logits, target, LossConfig(1, 0, 0, 0), 0)
    expected = nn.functional.binary_cross_entropy_with_logits(logits, target)
    assert plain.item() == pytest.approx(expected.item())


def test_pixels_near_the_border_count_more() -> None:
    """Of 12 columns the object has 5; 2 to 7 are within 3 pixels of its border."""
    target = torch.zeros(1, 1, 1, 4, 12)
    target[..., :5] = 1
    near = torch.zeros_like(target)
    near[..., 2:8] = 1
    assert torch.equal(near_border(target), near)
    assert not near_border(torch.ones_like(target)).any(), "the frame's edge is no border"
    even = torch.zeros_like(target)
    assert hard_cross_entropy(even, target, 1.0, border=2.0).item() == pytest.approx(
        (6 * np.log(2) + 6 * 3 * np.log(2)) / 12
    )
    config = LossConfig(bootstrap_ratio=1.0, bootstrap_steps=0.0, dice=0.0, border=2.0)
    assert training_loss(even, target, config, 0).item() == pytest.approx(2 * np.log(2))


def test_a_frozen_backbone_sees_one_frame_at_a_time_and_gives_the_same() -> None:
    torch.manual_seed(0)
    backbone = EfficientNet("efficientnet-lite0")
    backbone.requires_grad_(False)
    frames = 2 * torch.rand(3, 3, 64, 96) - 1
    seen: list[int] = []
    backbone.conv.register_forward_hook(lambda layer, given, made: seen.append(len(made)))
    for whole, single in zip(backbone.eval()(frames), backbone.train()(frames), strict=True):
        torch.testing.assert_close(single, whole, rtol=1e-5, atol=1e-5)
    assert seen == [3, 1, 1, 1]


@pytest.mark.parametrize("config", NETWORKS, ids=lambda c: c.preset)
def test_rollout_is_the_step_graph_over_a_clip(config: NetworkConfig) -> None:
    torch.manual_seed(3)
    network = build(config).eval()
    frames = torch.randint(0, 256, (4, 2, 3, 32, 64), dtype=torch.uint8)
    masks = torch.zeros(3, 1, 32, 64, dtype=torch.uint8)
    masks[:2, :, 8:24, 10:40] = masks[2, :, 16:32, 30:60] = 255
    owners = torch.tensor([0, 1, 1])
    with torch.inference_mode():
        logits = Rollout(network, corruption=0.0)(frames, masks, owners)
        for clip in range(2):
            own = owners == clip
            pictures = [frame[clip].permute(1, 2, 0) for frame in frames]
            states = network.init(pictures[0], masks[own, 0])
            for t, picture in enumerate(pictures[1:]):
                found, *states = network.step(picture, *states)
                expected = (torch.sigmoid(logits[t, own, 0]) * 255).round()
                assert (found - expected).abs().max() <= 1


def test_ema_is_short_when_young_and_shares_what_is_frozen() -> None:
    network = build(NETWORKS[0])
    network.freeze_backbone()
    network.train()
    average = EMA(network, 0.9)
    first = network.decoder.logits.weight.detach().clone()  # type: ignore[union-attr]
    with torch.no_grad():
        network.decoder.logits.weight.add_(1)  # type: ignore[union-attr]
    average.update(network, 1)
    mean = average.network.decoder.logits.weight  # type: ignore[union-attr]
    torch.testing.assert_close(mean, first + 9 / 11)
    for _ in range(50):
        average.update(network, 1000)
    torch.testing.assert_close(mean, first + 1 - 0.9**50 * 2 / 11)
    weights, current = average.weights(network), network.state_dict()
    shared = [key for key in weights if weights[key].data_ptr() == current[key].data_ptr()]
    assert all(key in shared for key in weights if "backbone" in key)
    assert "decoder.logits.weight" not in shared


def test_divergence_notices_what_is_broken_and_what_stays_broken() -> None:
    config = DivergenceConfig(factor=3, patience=20)
    assert "loss is nan" in str(Divergence(config).problem(float("nan"), 1, scaled=False))
    assert "gradient is inf" in str(Divergence(config).problem(1, float("inf"), scaled=False))
    assert Divergence(config).problem(1, float("inf"), scaled=True) is None
    watch = Divergence(config)
    for step in range(99):  # falls, with an outlier now and then
        assert watch.problem(5 if step % 10 == 9 else 1 / (1 + step / 50), 1, scaled=False) is None
        assert not watch.suspect
    for step in range(1, 20):
        assert watch.problem(5, 1, scaled=False) is None
        assert watch.suspect == (step >= SUSPECT_AFTER)
    again = replace(watch)
    assert "20 steps the loss, 5, is far above its mean" in str(again.problem(5, 1, scaled=False))


def row(step: int, validation: tuple[float, float] | None = None) -> Step:
    return Step(step, 9, 1 / step, 0.5, 1e-3, 2.0, 0.25, 0.01, 4, validation)


def test_history_drops_rows_of_a_lost_attempt_and_what_a_kill_cut(tmp_path: Path) -> None:
    path, config = tmp_path / "history.csv", load_config("lite")
    with Records(config, tmp_path, 0) as records:
        for step in range(1, 7):
            records.write(row(step, (0.25, 0.5) if step == 2 else None))
    with path.open("a") as file:
        file.write("7,0.1")
    with Records(config, tmp_path, 4) as records:
        records.write(row(5))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert [int(one["step"]) for one in rows] == [1, 2, 3, 4, 5]
    assert (rows[1]["validation_j"], rows[1]["validation_f"]) == ("0.25", "0.5")
    assert rows[2]["validation_j"] == ""
    assert (rows[2]["seconds"], rows[2]["waiting"], rows[2]["clips"]) == ("0.25", "0.01", "4")
    assert cv2.imread(str(tmp_path / "loss_history.png")) is not None
    with Records(config, tmp_path, 0):  # a run from the start keeps nothing
        pass
    assert len(path.read_text().splitlines()) == 1
    draw_curves(path, tmp_path / "none.png")
    assert sorted(one.name for one in tmp_path.iterdir()) == [
        *("config.yaml", "history.csv", "loss_history.png", "tensorboard"),
    ]


def test_random_states_survive_a_file(tmp_path: Path) -> None:
    def draw() -> list[float]:
        return [torch.rand(()).item(), random.random(), float(np.random.rand())]

    torch.save(random_state(), tmp_path / "state.pt")
    expected = draw()
    draw()
    set_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draw() == expected


class Follows(nn.Module):
    """Stands for a network: its mask is where the frame is red, its state nothing."""

    def init(self, frame: torch.Tensor, masks: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.zeros(len(masks)),)

    def step(self, frame: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        red = frame[None, ..., 0]
        return torch.cat([red, 255 - red])[: len(state)], state


def test_validation_scores_every_object_of_the_first_frame(tmp_path: Path) -> None:
    truth = np.full((32, 64), 2, np.uint8)
    truth[8:24, 10:40] = 1
    frame = np.zeros((32, 64, 3), np.uint8)
    frame[truth == 1] = (255, 0, 0)
    half = truth.copy()
    half[8:24, 25:40] = 2
    video = Video("red", (frame,) * 5, (truth, truth, None, truth, half))
    score = score_video(Follows(), video, torch.device("cpu"))  # type: ignore[arg-type]
    red, rest = 16 * 30, 32 * 64 - 16 * 30
    assert score.j == pytest.approx((2 * (1 + 1) + 0.5 + rest / (rest + red / 2)) / 6)
    assert 0.5 < score.f < 1
    alone = Video("red", (frame,) * 3, tuple(np.uint8(truth == 1) for _ in range(3)))
    perfect = score_video(Follows(), alone, torch.device("cpu"))  # type: ignore[arg-type]
    assert (perfect.j, perfect.f) == (1, 1)
    with Records(load_config("lite"), tmp_path, 0) as records:
        records.show([score, perfect], 1)
    page = cv2.imread(str(tmp_path / "validation" / "000001.png"))
    assert page is not None
    assert (page[..., ::-1] == np.concatenate([score.strip, perfect.strip])).all()


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    for name in ("koi", "turtle"):
        for part in ("JPEGImages", "Annotations"):
            (tmp_path / part / "480p" / name).mkdir(parents=True)
        for i, (frame, ids) in enumerate(render(length=4, height=64, width=112)):
            stem = f"480p/{name}/{i:05d}"
            cv2.imwrite(str(tmp_path / "JPEGImages" / f"{stem}.jpg"), frame[..., ::-1])
            cv2.imwrite(str(tmp_path / "Annotations" / f"{stem}.png"), ids)
    lists = tmp_path / "ImageSets" / "2016"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("koi\n")
    (lists / "val.txt").write_text("turtle\n")
    return tmp_path


def test_validation_takes_what_is_not_trained_on(davis: Path) -> None:
    config = with_data(load_config("lite"), [f"davis={davis}"])
    config = replace(
        config,
        network=replace(config.network, height=64, width=96),
        validation=replace(config.validation, frames=5),
    )
    (video,) = validation_videos(config)
    assert video.name == "turtle"
    assert len(video.frames) == 4
    assert video.frames[0].shape == (config.network.height, config.network.width, 3)
    assert set(np.unique(video.truths[0])) == {0, 1}  # type: ignore[arg-type]  # DAVIS 2016
    both = replace(config.data[0], split="train+val")
    names = [one.name for one in validation_videos(replace(config, data=(both,)))]
    assert all(name.startswith("synthetic") for name in names)
    assert len(names) == config.validation.clips
    never = replace(config, validation=replace(config.validation, every=0))
    assert validation_videos(never) == []
    own = DataConfig(DataKind.DAVIS, str(davis), "train", 2016)
    named = replace(config, validation=replace(config.validation, data=own, frames=2))
    assert [(one.name, len(one.frames)) for one in validation_videos(named)] == [("koi", 2)]
    stills = DataConfig(DataKind.STILLS, str(davis))
    with pytest.raises(UserError, match=r"validation\.data cannot be stills"):
        validation_videos(replace(config, validation=replace(config.validation, data=stills)))
