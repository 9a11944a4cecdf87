"""Clips invented from one frame."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from s2svos.adapt.synthesis import FirstFrame
from s2svos.data.warp import identity_grid
from s2svos_engines.letterbox import Letterbox

SIZE = (64, 96)
RED, BLUE = (220, 30, 30), (30, 30, 220)


def scene(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A red object (7) and a blue one (9) that hides a corner of it, on green."""
    frame = np.full((height, width, 3), (60, 140, 60), np.uint8)
    ids = np.zeros((height, width), np.uint8)
    for one, colour, (top, left) in ((7, RED, (0.2, 0.2)), (9, BLUE, (0.5, 0.45))):
        box = np.s_[
            int(top * height) : int((top + 0.35) * height),
            int(left * width) : int((left + 0.3) * width),
        ]
        frame[box], ids[box] = colour, one
    return frame, ids


def is_like(frames: NDArray[np.uint8], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    """Where the strongest channel is the colour's, by far."""
    strongest = int(np.argmax(colour))
    others = np.delete(frames, strongest, -1).max(-1).astype(int)
    return frames[..., strongest].astype(int) - others > 60  # type: ignore[no-any-return]


@pytest.mark.parametrize("native", [(480, 720), (96, 144), (40, 60), (300, 100), (1440, 2560)])
def test_a_clip_begins_with_the_frame_and_its_masks(native: tuple[int, int]) -> None:
    frame, ids = scene(*native)
    clip = FirstFrame(frame, ids, SIZE).sample(np.random.default_rng(0), 3)
    assert clip.frames.shape == (3, *SIZE, 3) and clip.masks.shape == (3, 2, *SIZE)
    assert clip.frames.dtype == clip.masks.dtype == np.uint8
    fit = Letterbox.of(native, SIZE)
    assert np.abs(clip.frames[0].astype(int) - fit.resize(frame)).mean() < 3
    for mask, one in zip(clip.masks[0], (7, 9), strict=True):
        expected = fit.resize((ids == one).astype(np.uint8) * np.uint8(255))
        assert np.abs(mask.astype(int) - expected).mean() < 3


def test_masks_move_with_their_objects() -> None:
    frame, ids = scene(256, 384)
    source = FirstFrame(frame, ids, SIZE)
    moved = 0
    for seed in range(12):
        clip = source.sample(np.random.default_rng(seed), 4)
        for index, colour in enumerate((RED, BLUE)):
            seen, mask = is_like(clip.frames, colour), clip.masks[:, index] > 127
            both, either = (seen & mask).sum((1, 2)), (seen | mask).sum((1, 2))
            assert (both > 0.85 * either - 12).all(), (seed, index)
            moved += (mask[0] != mask[-1]).mean() > 0.02
        # What an object hides of another is not the other's.
        assert clip.masks.astype(int).sum(1).max() <= 258
    assert moved > 15


@pytest.mark.parametrize("front", [0, 1])
def test_the_object_in_front_hides_the_other(front: int) -> None:
    frame, ids = scene(128, 192)
    source = FirstFrame(frame, ids, SIZE)
    shift = np.array([[20, 10], [0, 0]], np.float32)  # the first object onto the second
    grids = [identity_grid(128, 192) - by for by in shift]
    canvas = np.zeros_like(frame)
    masks = source._composite(canvas, grids, [1 - front, front])
    alone = [
        source._composite(np.zeros_like(frame), [one, one], [i]) for i, one in enumerate(grids)
    ]
    assert np.array_equal(masks[front], alone[front][front])
    overlap = (alone[0][0] == 255) & (alone[1][1] == 255)
    assert overlap.sum() > 200
    assert not masks[1 - front][overlap].any()
    assert (canvas[overlap] == (RED, BLUE)[front]).all()


def test_the_background_is_filled_in_where_an_object_was() -> None:
    frame, ids = scene(256, 384)
    only = np.where(ids == 7, ids, 0).astype(np.uint8)
    frame[ids == 9] = (60, 140, 60)
    source = FirstFrame(frame, only, SIZE)
    for seed in range(6):
        clip = source.sample(np.random.default_rng(seed), 3)
        stray = is_like(clip.frames, RED) & (clip.masks[:, 0] < 10)
        assert stray.mean() < 0.004


def test_clips_depend_on_the_seed_alone() -> None:
    frame, ids = scene(128, 192)
    first, again, other = (
        FirstFrame(frame, ids, SIZE).sample(np.random.default_rng(seed), 3) for seed in (1, 1, 2)
    )
    assert np.array_equal(first.frames, again.frames)
    assert np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.masks, other.masks)


def test_an_object_may_cover_the_whole_frame() -> None:
    frame, _ = scene(128, 192)
    clip = FirstFrame(frame, np.full((128, 192), 5, np.uint8), SIZE).sample(
        np.random.default_rng(3), 3
    )
    assert (clip.masks[0] == 255).all()
