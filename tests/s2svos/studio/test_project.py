"""What a project keeps, and how following is planned."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from studio_server import HEIGHT, WIDTH, pond

from s2svos import UserError
from s2svos.studio.follower import Stretch, plan
from s2svos.studio.frames import Frames
from s2svos.studio.project import Project, default_folder
from s2svos.video.masks import read_first_mask
from s2svos.video.reader import Video

FRAMES = 12


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Video:
    return Video(pond(tmp_path_factory.mktemp("pond") / "pond.mp4", FRAMES))


def square(*ids: int) -> np.ndarray:
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for place, one in enumerate(ids):
        labels[20:60, 20 + 60 * place : 60 + 60 * place] = one
    return labels


def test_it_is_there_again_when_it_is_opened_again(video: Video, tmp_path: Path) -> None:
    project = Project(video, tmp_path / "p")
    assert project.mask(3) is None
    assert not (tmp_path / "p").exists()
    project.give(3, square(1, 2))
    project.name(2, "turtle")
    project.follow(4, square(1), {1: 0.9})
    project.follow(3, square(7), {7: 0.9})  # was painted, which nothing overwrites
    project.save_confidence()

    again = Project(video, tmp_path / "p")
    assert (again.given, again.followed) == ([3], [4])
    assert again.confidence == {4: {1: 0.9}}
    assert [one.name for one in again.objects.values()] == ["object 1", "turtle"]
    for index, expected in ((3, square(1, 2)), (4, square(1))):
        found = again.mask(index)
        assert found is not None
        assert np.array_equal(found, expected)
    mask = read_first_mask(tmp_path / "p" / "given" / "000003.png", size=(HEIGHT, WIDTH))
    assert mask.objects == (1, 2)
    assert again.command().endswith(f"--mask 3={tmp_path}/p/given/000003.png --backwards")
    assert not list(tmp_path.rglob("*.part"))


def test_what_is_taken_away(video: Video, tmp_path: Path) -> None:
    project = Project(video, tmp_path / "p")
    project.give(0, square(1, 2))
    project.give(5, square(2))
    project.remove(2)
    assert project.given == [0]
    assert list(project.objects) == [1]
    assert set(np.unique(project.mask(0))) == {0, 1}
    project.give(0, square())
    assert project.given == []
    assert project.command() == ""


def test_folders_that_are_no_project_of_this_video(video: Video, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("dear")
    with pytest.raises(UserError, match="is no project of s2svos studio"):
        Project(video, tmp_path / "mine")
    project = Project(video, tmp_path / "p")
    project.give(0, square(1))
    facts = json.loads((tmp_path / "p" / "project.json").read_text())
    (tmp_path / "p" / "project.json").write_text(json.dumps({**facts, "size": [10, 10]}))
    with pytest.raises(UserError, match="is of a video of 10x10"):
        Project(video, tmp_path / "p")
    for wrong in (0, 256):
        with pytest.raises(UserError, match="cannot have that name"):
            project.name(wrong, "koi")
    with pytest.raises(UserError, match="cannot have that name"):
        project.name(1, "a\nb")
    assert default_folder(Path("a/b.mp4")).name == "b.mp4.studio"


def test_every_frame_is_followed_from_the_nearest_painted_one() -> None:
    assert plan([], 10) == []
    assert plan([0], 10) == [Stretch(0, 9)]
    assert plan([4], 10) == [Stretch(4, 9), Stretch(4, 0)]
    assert plan([2, 7], 10) == [Stretch(2, 4), Stretch(2, 0), Stretch(7, 9), Stretch(7, 5)]
    for given, count in (([0, 9], 10), ([3, 4, 8], 20), ([5], 6)):
        frames = list(given)
        for one in plan(given, count):
            step = 1 if one.last > one.start else -1
            frames += range(one.start + step, one.last + step, step)
        assert sorted(frames) == list(range(count))


def test_frames_in_any_order(video: Video) -> None:
    frames, expected = Frames(video), [frame for _, frame in video]
    for index in (5, 6, 2, 11, 0, 6):
        assert np.array_equal(frames[index], expected[index])
    with pytest.raises(UserError, match="has no frame 12"):
        frames[FRAMES]
