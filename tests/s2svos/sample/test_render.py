"""The demonstration clip is the same everywhere and its masks are true."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from s2svos.sample.render import render

Clip = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=36, height=180, width=320))


def test_shapes_and_ids(clip: Clip) -> None:
    assert len(clip) == 36
    for frame, ids in clip:
        assert frame.shape == (180, 320, 3) and frame.dtype == np.uint8
        assert ids.shape == (180, 320) and ids.dtype == np.uint8
        assert set(np.unique(ids)) <= {0, 1, 2}
    assert set(np.unique(clip[0][1])) == {0, 1, 2}


def test_deterministic_and_seeded(clip: Clip) -> None:
    again = list(render(length=3, height=90, width=160))
    same = list(render(length=3, height=90, width=160))
    other = list(render(length=3, height=90, width=160, seed=1))
    for (frame, ids), (frame2, ids2) in zip(again, same, strict=True):
        assert np.array_equal(frame, frame2) and np.array_equal(ids, ids2)
    assert not np.array_equal(again[0][0], other[0][0])


def test_masks_match_the_colours(clip: Clip) -> None:
    """The koi is the only orange thing, and no part of it is green as the pads are."""
    found, total = 0, 0
    for frame, ids in clip[::4]:
        red, green, blue = (frame[..., channel].astype(int) for channel in range(3))
        orange = (red > 130) & (red - green > 70) & (green > blue)
        found += int(np.count_nonzero(orange & (ids == 1)))
        total += int(np.count_nonzero(orange))
        leaf = (green - red > 40) & (green - blue > 40)
        assert np.count_nonzero(leaf & (ids > 0)) < 0.02 * np.count_nonzero(ids > 0)
    assert total > 1000
    assert found / total > 0.95


def test_the_koi_is_hidden_and_comes_back(clip: Clip) -> None:
    area = np.array([np.count_nonzero(ids == 1) for _, ids in clip])
    least = int(area.argmin())
    assert area[least] < 0.3 * area.max()
    assert area[:least].max() > 0.8 * area.max()
    assert area[least:].max() > 0.8 * area.max()


def test_the_objects_touch(clip: Clip) -> None:
    def touching(ids: NDArray[np.uint8]) -> bool:
        return bool(((ids[:, 1:] == 1) & (ids[:, :-1] == 2)).any())

    assert sum(touching(ids) for _, ids in clip) >= 3
