"""Whole evaluations of real clips against vos-benchmark, which reads the masks from disk itself."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from data_sets import drawn, write_frames, write_masks

import s2svos
from s2svos.data.files import read_mask
from s2svos.data.layouts import folder
from s2svos.evaluation.protocol import evaluate_video
from s2svos.evaluation.scores import Overall, Statistics, VideoScore
from s2svos.video.reader import Video
from s2svos_engines.arrays import Labels

official = pytest.importorskip(
    "vos_benchmark.benchmark", reason="pip install --no-deps vos-benchmark scikit-image tqdm"
)

SEQUENCES = {"bear": 0, "bmx-bumps": 54, "mallard-fly": 40, "motorbike": 28}  # first frames
FRAMES = 8


def split_in_two(mask: Labels) -> Labels:
    """Two objects that touch: left of the object's middle column 1, right of it 2."""
    columns = np.flatnonzero(mask.any(axis=0))
    split = (mask > 0).astype(np.uint8)
    if columns.size:
        split[:, int(columns.mean()) :] *= 2
    return split


def scored(root: Path) -> list[VideoScore]:
    """Evaluates a folder; its masks go to ``root/found``."""
    tracker = s2svos.load()
    scores = []
    for video in folder(root):

        def save_mask(stem: str, labels: Labels, name: str = video.name) -> None:
            write_masks(root / "found" / name, {stem: labels})

        scores.append(evaluate_video(tracker, video, save_mask=save_mask))
    return scores


def assert_equal(root: Path, scores: list[VideoScore]) -> None:
    evaluator = official.VideoEvaluator(root / "masks", root / "found")
    objects = 0
    for score in scores:
        _, j, f = evaluator(score.name)
        assert set(j) == {one.id for one in score.objects}
        for one in score.objects:
            assert 100 * Statistics.of(one.j).mean == pytest.approx(j[one.id], abs=1e-9)
            assert 100 * Statistics.of(one.f).mean == pytest.approx(f[one.id], abs=1e-9)
            objects += 1
    assert Overall.of(scores).objects == objects


def test_real_clips_with_one_and_with_two_objects(clips: Path, tmp_path: Path) -> None:
    """In bmx-bumps the object leaves the picture."""
    for name, start in SEQUENCES.items():
        frames = [frame for _, frame in islice(Video(clips / f"{name}.mp4", start=start), FRAMES)]
        paths = [clips / name / f"{start + index:05d}.png" for index in range(FRAMES)]
        masks = [read_mask(path) for path in paths]
        if name in ("bear", "motorbike"):
            masks = [split_in_two(mask) for mask in masks]
        write_frames(tmp_path / "frames" / name, frames)
        write_masks(tmp_path / "masks" / name, {f"{i:05d}": mask for i, mask in enumerate(masks)})
    scores = scored(tmp_path)
    assert sum(len(score.objects) for score in scores) == 6
    values = [value for score in scores for one in score.objects for value in (*one.j, *one.f)]
    assert min(values) < 0.8 and len(set(values)) > 60, "not a comparison of nothing with nothing"
    assert_equal(tmp_path, scores)


def test_objects_that_vanish_and_come_back(tmp_path: Path) -> None:
    clip = drawn(FRAMES)
    for index in (3, 4):
        clip[index][1][clip[index][1] == 1] = 0
    write_frames(tmp_path / "frames" / "pond", [frame for frame, _ in clip])
    write_masks(tmp_path / "masks" / "pond", {f"{i:05d}": ids for i, (_, ids) in enumerate(clip)})
    scores = scored(tmp_path)
    assert len(scores[0].objects) == 2
    assert_equal(tmp_path, scores)
