"""The bundle that ships."""

from pathlib import Path

import numpy as np
import pytest

import s2svos
from s2svos.evaluation.metrics import region_similarity
from s2svos.sample.render import render
from s2svos.video.masks import read_first_mask
from s2svos.video.reader import Video
from s2svos_engines.bundle import Bundle


def test_it_is_small_and_tells_its_origin() -> None:
    path = s2svos.default_bundle()
    assert path.stat().st_size < 25e6
    bundle = Bundle.open(path)
    assert bundle.manifest.preset == "lite"
    assert bundle.precisions == ("fp32", "fp16", "int8")
    davis, *stills = bundle.manifest.training["data"]
    assert len(davis["videos"]) == 25, "the other five are for measuring"
    assert sum(sum(one["stills"].values()) for one in stills) == 7374
    parity = bundle.manifest.parity
    assert parity["fp32"]["mean_iou"] >= 0.999
    assert parity["fp16"]["mean_iou"] >= 0.99  # in bf16; 0.999 in fp16
    assert parity["int8"]["mean_iou"] >= 0.98
    card = (path.parent / "MODEL_CARD.md").read_text()
    assert "research" in card
    assert "CC BY-NC" in card


def test_it_follows_the_rendered_turtle() -> None:
    """The other object, the koi, is hidden half of the time."""
    clip = list(render(length=30))
    stream = s2svos.load().open(*clip[0])
    scores = []
    for frame, truth in clip[1:]:
        labels = stream.step(frame)
        scores.append(region_similarity(labels == 2, truth == 2))
    assert np.mean(scores) > 0.8


@pytest.mark.slow
def test_it_follows_a_motorbike(clips: Path) -> None:
    truths = sorted((clips / "motorbike").glob("*.png"))
    first = read_first_mask(truths[0], size=(480, 854))
    frames = iter(Video(clips / "motorbike.mp4"))
    stream = s2svos.load().open(next(frames)[1], first.ids)
    scores = []
    for (_, frame), path in zip(frames, truths[1:], strict=False):
        truth = read_first_mask(path, size=(480, 854)).ids > 0
        scores.append(region_similarity(stream.step(frame) > 0, truth))
    assert len(scores) > 30
    assert np.mean(scores) > 0.7
