"""Clips at the network's size, and how alike masks are."""

from itertools import islice

import numpy as np
import pytest

import s2svos
from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle
from s2svos_engines.closed_loop import NetworkClip, mask_iou, ping_pong
from s2svos_engines.registry import load_engine
from s2svos_engines.tracker import Tracker


def test_items_run_to_the_last_and_back_without_a_jump() -> None:
    assert [*islice(ping_pong("abcd"), 10)] == [*"abcdcbabcd"]
    assert [*islice(ping_pong("a"), 3)] == [*"aaa"]
    assert not [*ping_pong("")]


def test_iou_is_of_probabilities_above_one_half() -> None:
    masks = np.zeros((3, 4, 4), np.uint8)
    others = masks.copy()
    masks[0, :2], others[0, 1:3] = 128, 255  # a row in common, of three
    masks[1, 0], others[1, 0] = 127, 0  # both are empty
    masks[2, 0] = 200  # one is
    assert mask_iou(masks, others).tolist() == [pytest.approx(1 / 3), 1, 0]


def test_a_clip_is_followed_as_a_stream_follows_it() -> None:
    bundle = Bundle.open(s2svos.default_bundle())
    engine = load_engine(bundle, "onnxruntime", threads=1)
    contract = bundle.contract
    drawn = list(render(length=4, height=contract.height, width=contract.width))
    clip = NetworkClip.of(drawn, contract)
    assert clip.ids == (1, 2) and clip.first_masks.shape == (2, contract.height, contract.width)
    stream = Tracker(bundle, engine).open(*drawn[0])
    for masks, (frame, _) in zip(clip.rollout(engine), drawn[1:], strict=True):
        labels = stream.step(frame)
        for mask, one in zip(masks, clip.ids, strict=True):
            assert not (labels[mask < 128] == one).any()


@pytest.mark.parametrize("labels", [None, np.zeros((8, 8), np.uint8)])
def test_a_clip_without_an_object(labels: np.ndarray | None) -> None:
    clip = [] if labels is None else [(np.zeros((8, 8, 3), np.uint8), labels)]
    with pytest.raises(ValueError, match="no frame, or no object"):
        NetworkClip.of(clip, Bundle.open(s2svos.default_bundle()).contract)
