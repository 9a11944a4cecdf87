"""One video: which object counts on which frame, worked out by hand."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_sets import video_files

from s2svos.commands.demo_run import judge, palette
from s2svos.evaluation.protocol import evaluate_video
from s2svos.evaluation.scores import ObjectScore
from s2svos.video.contact_sheet import contact_sheet
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError

SIZE = (48, 64)
BOX = np.s_[10:30, 5:25]
BELOW = np.s_[11:31, 5:25]  # J of 19 / 21 with BOX
OTHER = np.s_[32:44, 40:60]


def ids(**objects: Any) -> Labels:
    """A mask, as in ``ids(_1=BOX, _2=OTHER)``."""
    mask = np.zeros(SIZE, np.uint8)
    for name, place in objects.items():
        mask[place] = int(name[1:])
    return mask


@dataclass
class ScriptedTracker:
    """A tracker whose labels are given in advance; records the objects that it is given."""

    labels: list[Labels]
    starts: list[tuple[int, list[int]]] = field(default_factory=list)
    now: int = 0

    def open(self, frame: Frame, mask: Labels) -> ScriptedTracker:
        self.now = round(float(frame.mean()) / 10)
        self.starts.append((self.now, np.unique(mask[mask > 0]).tolist()))
        return self

    def step(self, frame: Frame) -> Labels:
        self.now += 1
        assert round(float(frame.mean()) / 10) == self.now, "each frame once, in order"
        return self.labels[self.now]

    def add(self, frame: Frame, mask: Labels) -> Labels:
        assert round(float(frame.mean()) / 10) == self.now, "the frame that was stepped last"
        self.starts.append((self.now, np.unique(mask[mask > 0]).tolist()))
        return np.where(mask > 0, mask, self.labels[self.now]).astype(np.uint8)


def stems(masks: list[Labels]) -> dict[str, Labels]:
    return {f"{index:05d}": mask for index, mask in enumerate(masks)}


def by_id(objects: tuple[ObjectScore, ...]) -> dict[int, ObjectScore]:
    return {one.id: one for one in objects}


def test_first_and_last_frame_do_not_count(tmp_path: Path) -> None:
    masks = [ids(_1=BOX)] * 5 + [ids()]  # the last would halve the mean if it counted
    tracker = ScriptedTracker([ids(_1=BELOW)] * 6)
    score = evaluate_video(tracker, video_files(tmp_path, stems(masks), 6))
    (one,) = score.objects
    assert one.frames == ("00001", "00002", "00003", "00004")
    assert one.j == pytest.approx([19 / 21] * 4)
    assert one.f == pytest.approx([1] * 4), "one pixel lies within the bound"
    assert (score.size, score.frames, score.steps) == (SIZE, 6, 5)
    assert score.seconds > 0


def test_empty_masks(tmp_path: Path) -> None:
    """Both empty: 1 and 1. One empty, whichever: 0 and 0."""
    masks = [ids(_1=BOX), ids(), ids(), ids(_1=BOX), ids(_1=BOX), ids()]
    labels = [ids(), ids(), ids(_1=BOX), ids(), ids(_1=BOX), ids()]
    score = evaluate_video(ScriptedTracker(labels), video_files(tmp_path, stems(masks), 6))
    (one,) = score.objects
    assert one.j == one.f == (1, 0, 0, 1)
    assert (score.j.mean, score.j.recall) == (0.5, 0.5)
    assert score.j.decay == pytest.approx((1 + 0) / 2 - (0 + 1) / 2)  # 4 frames: limits 1 2 3 3 4


def test_objects_are_scored_apart(tmp_path: Path) -> None:
    masks = [ids(_1=BOX, _2=OTHER)] * 4
    labels = [ids(_1=BELOW, _2=OTHER)] * 4
    score = evaluate_video(ScriptedTracker(labels), video_files(tmp_path, stems(masks), 4))
    assert by_id(score.objects)[1].j == pytest.approx([19 / 21] * 2)
    assert by_id(score.objects)[2].j == (1, 1)
    assert score.j.mean == pytest.approx((19 / 21 + 1) / 2)


def test_a_late_object_counts_from_the_frame_after_it_enters(tmp_path: Path) -> None:
    masks = [ids(_1=BOX)] * 2 + [ids(_1=BOX, _2=OTHER)] * 4
    labels = [ids(_1=BELOW)] * 3 + [ids(_1=BELOW, _2=OTHER)] * 2 + [ids()]
    video = video_files(tmp_path, stems(masks), 6, objects={1: "00000", 2: "00002"})
    tracker = ScriptedTracker(labels)
    score = evaluate_video(tracker, video)
    assert tracker.starts == [(0, [1]), (2, [2])]
    one, two = score.objects
    assert one.frames == ("00001", "00002", "00003", "00004")
    assert one.j == pytest.approx([19 / 21] * 4)
    assert (two.enters, two.frames, two.j) == ("00002", ("00003", "00004"), (1, 1))


def test_unlisted_late_objects_are_followed_on_demand(tmp_path: Path) -> None:
    masks = [ids(_1=BOX)] * 2 + [ids(_1=BOX, _2=OTHER)] * 4
    video = video_files(tmp_path, stems(masks), 6)
    tracker = ScriptedTracker([ids(_1=BOX)] * 6)
    assert [one.id for one in evaluate_video(tracker, video).objects] == [1], "DAVIS's protocol"
    assert tracker.starts == [(0, [1])]
    tracker = ScriptedTracker([ids(_1=BOX)] * 6)
    score = evaluate_video(tracker, video, late=True)
    assert tracker.starts == [(0, [1]), (2, [2])]
    assert by_id(score.objects)[2].j == (0, 0)


def test_a_mask_with_only_new_ids_leaves_the_others_as_predicted(tmp_path: Path) -> None:
    """YouTube-VOS's valid: 0 means unknown there, and nothing is scored."""
    masks = {"00000": ids(_1=BOX), "00002": ids(_2=OTHER)}
    labels = [ids(_1=BELOW)] * 3 + [ids(_1=BELOW, _2=OTHER)] * 2
    listed = {1: "00000", 2: "00002"}
    video = video_files(tmp_path, masks, 5, objects=listed, required=("00000", "00002", "00004"))
    kept: dict[str, Labels] = {}
    score = evaluate_video(ScriptedTracker(labels), video, save_mask=kept.__setitem__)
    assert list(kept) == ["00000", "00002", "00004"], "required frames only"
    assert np.array_equal(kept["00000"], ids(_1=BOX))
    assert np.array_equal(kept["00002"], ids(_1=BELOW, _2=OTHER))
    assert [one.frames for one in score.objects] == [(), ()]
    assert not score.scored and np.isnan(score.j.mean)


def test_sparse_truth_counts_where_it_is(tmp_path: Path) -> None:
    masks = {stem: ids(_1=BOX) for stem in ("00000", "00003", "00006", "00009")}
    score = evaluate_video(ScriptedTracker([ids(_1=BELOW)] * 10), video_files(tmp_path, masks, 10))
    assert score.objects[0].frames == ("00003", "00006"), "the last annotated frame is left out"


def test_frames_before_the_first_object_are_background(tmp_path: Path) -> None:
    masks = {"00002": ids(_1=BOX), "00003": ids(_1=BOX), "00004": ids(_1=BOX)}
    kept: dict[str, Labels] = {}
    tracker = ScriptedTracker([ids(_1=BOX)] * 5)
    score = evaluate_video(tracker, video_files(tmp_path, masks, 5), save_mask=kept.__setitem__)
    assert tracker.starts == [(2, [1])] and score.steps == 2
    assert not kept["00001"].any() and kept["00002"].any()


def test_davis_2016_has_one_foreground(tmp_path: Path) -> None:
    masks = [ids(_1=BOX, _255=OTHER)] * 4
    tracker = ScriptedTracker([ids(_1=BOX)] * 4)
    score = evaluate_video(tracker, video_files(tmp_path, stems(masks), 4, merge=True))
    assert tracker.starts == [(0, [1])]
    assert score.objects[0].j == pytest.approx([400 / (400 + 240)] * 2)


@pytest.mark.parametrize("late", [False, True])
def test_255_is_void_beside_other_ids_and_an_object_alone(tmp_path: Path, late: bool) -> None:
    masks = [ids(_1=BOX, _255=OTHER), ids(_1=BOX), ids(_255=OTHER), ids(_1=BOX)]
    video = video_files(tmp_path / "void", stems(masks), 4)
    score = evaluate_video(ScriptedTracker([ids(_1=BOX)] * 4), video, late=late)
    assert [one.id for one in score.objects] == [1]
    assert score.objects[0].j == (1, 0), "void is no part of the object"
    black_and_white = video_files(tmp_path / "alone", stems([ids(_255=BOX)] * 4), 4)
    score = evaluate_video(ScriptedTracker([ids(_255=BOX)] * 4), black_and_white, late=late)
    assert [(one.id, one.j) for one in score.objects] == [(255, (1, 1))]


def test_size_of_frames_and_masks(tmp_path: Path) -> None:
    """Asked for, any mask is brought to the size; else one that is off by a rounding."""
    masks = [ids(_1=BOX)] * 4
    video = video_files(tmp_path / "double", stems(masks), 4)
    double = [np.kron(mask, np.ones((2, 2), np.uint8)).astype(np.uint8) for mask in masks]
    score = evaluate_video(ScriptedTracker(double), video, size=(96, 128))
    assert score.size == (96, 128) and score.objects[0].j == (1, 1)
    narrow = {stem: mask[:, :63] for stem, mask in stems(masks).items()}
    score = evaluate_video(ScriptedTracker(masks), video_files(tmp_path / "narrow", narrow, 4))
    assert score.objects[0].j[0] > 0.9
    small = {stem: mask[:40] for stem, mask in stems(masks).items()}
    video = video_files(tmp_path / "small", small, 4)
    with pytest.raises(UserError, match=r"64x40, but its frame is 64x48.*--size"):
        evaluate_video(ScriptedTracker(masks), video)


def test_what_does_not_fit_together_is_named(tmp_path: Path) -> None:
    masks = stems([ids(_1=BOX)] * 4)
    tracker = ScriptedTracker([ids()] * 9)
    with pytest.raises(UserError, match=r"00003\.png has no frame"):
        evaluate_video(tracker, video_files(tmp_path / "a", masks, 3))
    listed = {1: "00000", 2: "00001"}
    with pytest.raises(UserError, match=r"00001\.png has no mask of the object 2"):
        evaluate_video(tracker, video_files(tmp_path / "b", masks, 4, objects=listed))
    with pytest.raises(UserError, match="object 2 of x is listed to enter on a frame"):
        gone = {1: "00000", 2: "00009"}
        evaluate_video(tracker, video_files(tmp_path / "c", masks, 4, objects=gone))
    with pytest.raises(UserError, match="No mask of x shows an object"):
        evaluate_video(tracker, video_files(tmp_path / "d", stems([ids()] * 4), 4))


def test_two_frames_have_nothing_to_score(tmp_path: Path) -> None:
    video = video_files(tmp_path, stems([ids(_1=BOX)] * 2), 2)
    assert not evaluate_video(ScriptedTracker([ids()] * 2), video).scored


def test_every_frame_is_reported(tmp_path: Path) -> None:
    seen: list[int] = []
    video = video_files(tmp_path, stems([ids(_1=BOX)] * 4), 4)
    evaluate_video(ScriptedTracker([ids()] * 4), video, report=seen.append)
    assert seen == [1] * 4


def test_the_demo_is_judged_by_object() -> None:
    frame = np.zeros((*SIZE, 3), np.uint8)
    clip = [(frame, ids(_1=BOX))] * 3  # 2 and 3 are hidden
    names = ("koi", "turtle", "second koi", "overall")
    assert judge(clip, [mask for _, mask in clip]) == dict.fromkeys(names, 1)
    seen = [np.full(SIZE, 2, np.uint8)] * 3
    assert judge(clip, seen)["overall"] == pytest.approx(1 / 3)  # 3, of which nothing is seen


def test_contact_sheet(tmp_path: Path) -> None:
    frames = [(np.full((*SIZE, 3), 90, np.uint8), ids(_1=BOX))] * 20
    contact_sheet(frames, tmp_path / "sheet.png", palette=palette(), columns=3, rows=2)
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape[1] > sheet.shape[0]
    with pytest.raises(UserError, match="at least one frame"):
        contact_sheet([], tmp_path / "none.png", palette=palette())
