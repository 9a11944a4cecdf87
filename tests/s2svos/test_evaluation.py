from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from s2svos.demo.run import judge, palette
from s2svos.demo.sheet import contact_sheet
from s2svos.evaluation.davis import evaluate_sequence
from s2svos_engines.errors import UserError

SIZE = (48, 64)


class Shifted:
    """A tracker whose masks are the truth, one row too low."""

    def __init__(self, truths: list[NDArray[np.uint8]]) -> None:
        self.truths = iter(truths[1:])

    def open(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> "Shifted":
        assert set(np.unique(mask)) == {0, 1}, "DAVIS 2016: one foreground"
        return self

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.roll(next(self.truths), 1, axis=0)


def truths(length: int) -> list[NDArray[np.uint8]]:
    masks = [np.zeros(SIZE, np.uint8) for _ in range(length)]
    for t, mask in enumerate(masks):
        mask[10:30, 5 + t : 25 + t] = 3
    return masks


def test_first_and_last_frame_do_not_count() -> None:
    masks = truths(6)
    masks[-1][:] = 0  # would halve the mean if it counted
    frames = [np.zeros((*SIZE, 3), np.uint8)] * 6
    score = evaluate_sequence(Shifted(masks), "x", frames, masks)  # type: ignore[arg-type]
    assert score.j == pytest.approx(19 / 21)
    assert score.f == pytest.approx(1), "one pixel lies within the bound"
    assert score.frames == 6


def test_masks_that_do_not_fit_are_named() -> None:
    frames = [np.zeros((*SIZE, 3), np.uint8)] * 5
    masks = truths(4)
    with pytest.raises(UserError, match="one mask for every frame"):
        evaluate_sequence(Shifted(masks), "x", frames, masks)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="fewer than three"):
        evaluate_sequence(Shifted(masks), "x", frames[:2], masks[:2])  # type: ignore[arg-type]
    with pytest.raises(UserError, match="give masks of the frames' size"):
        small = [mask[:40] for mask in masks]
        evaluate_sequence(Shifted(small), "x", frames[:4], small)  # type: ignore[arg-type]


def test_the_demo_is_judged_by_object() -> None:
    frame = np.zeros((*SIZE, 3), np.uint8)
    truth = truths(3)
    clip = [(frame, (mask // 3).astype(np.uint8)) for mask in truth]  # id 1 alone, 2 is hidden
    assert judge(clip, [ids for _, ids in clip]) == {"koi": 1, "turtle": 1, "overall": 1}
    seen = [np.full(SIZE, 2, np.uint8)] * 3
    assert judge(clip, seen) == {"koi": 0, "turtle": 0, "overall": 0}


def test_contact_sheet(tmp_path: Path) -> None:
    frames = [(np.full((*SIZE, 3), 90, np.uint8), mask) for mask in truths(20)]
    contact_sheet(frames, tmp_path / "sheet.png", palette=palette(), columns=3, rows=2)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > sheet.shape[0]
    with pytest.raises(UserError, match="at least one frame"):
        contact_sheet([], tmp_path / "none.png", palette=palette())
