"""Both designs fit a clip that they see again and again, followed on their own masks."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from s2svos.data.clips import Clip
from s2svos.network.checkpoint import load_network
from s2svos.network.config import LiteConfig, NetworkConfig, PaperConfig
from s2svos.sample.render import render
from s2svos.training.config import LossConfig, PhaseConfig, ScheduleConfig, with_lr
from s2svos.training.config_file import load_config, with_data
from s2svos.training.initial_weights import starting_network
from s2svos.training.run_log import Step
from s2svos.training.trainer import Trainer
from s2svos.training.validation import Video, score_video

HEIGHT, WIDTH, LENGTH = 64, 96, 4


class Turtle:
    """The rendered turtle, every fourth frame."""

    def __init__(self) -> None:
        scene = list(render(length=24, height=HEIGHT, width=WIDTH))[2 : 2 + 4 * LENGTH : 4]
        frames, ids = zip(*scene, strict=True)
        masks = [(one == 2).astype(np.uint8) * np.uint8(255) for one in ids]
        self.clip = Clip(np.stack(frames), np.stack(masks), "turtle")

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        assert self.clip.masks.shape == (length, height, width)
        return self.clip

    def facts(self) -> dict[str, Any]:
        return {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("network", "steps", "rate"),
    [
        (LiteConfig(HEIGHT, WIDTH, hidden=16, first_key=16, last_key=8), 120, 2e-3),
        (PaperConfig(HEIGHT, WIDTH, channels=64, fc_channels=64, vgg_width=0.25), 160, 1e-3),
    ],
    ids=lambda value: getattr(value, "preset", None),
)
def test_a_clip_is_learnt_by_heart(
    network: NetworkConfig, steps: int, rate: float, tmp_path: Path
) -> None:
    config = with_data(load_config("paper"), ["synthetic"])
    config = replace(
        with_lr(config, rate),
        network=network,
        backbone=replace(config.backbone, weights="none"),
        phases=(PhaseConfig(1, LENGTH, HEIGHT, WIDTH, steps=steps),),
        schedule=ScheduleConfig("cosine", warm_up=0.05, floor=0.0),
        loss=LossConfig(bootstrap_ratio=1.0, bootstrap_steps=0.0, dice=0.5, border=0.0),
        validation=replace(config.validation, every=0),
        ema_decay=0.9,
        checkpoint_every=steps,
        workers=0,
    )
    source, seen = Turtle(), list[Step]()
    trainer = Trainer(
        config,
        network=starting_network(config),
        source=source,  # type: ignore[arg-type]
        out=tmp_path,
    )
    final = trainer.run(seen.append)
    assert np.mean([step.jaccard for step in seen[:5]]) < 0.3
    assert np.mean([step.jaccard for step in seen[-5:]]) > 0.9
    truths = tuple((source.clip.masks > 127).astype(np.uint8))
    video = Video("turtle", tuple(source.clip.frames), truths)
    score = score_video(load_network(final), video, torch.device("cpu"))
    assert score.j > 0.9
