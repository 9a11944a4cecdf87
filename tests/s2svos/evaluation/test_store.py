"""What an interrupted or repeated evaluation keeps, in process, with a tracker that is given."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_sets import Clip, davis_2017, drawn

from s2svos.data.layouts import VideoFiles, davis
from s2svos.evaluation.report import write_csv, write_json, write_submission
from s2svos.evaluation.run import Job, evaluate_videos
from s2svos.evaluation.scores import VideoScore
from s2svos.evaluation.store import Store
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError

SETTINGS: dict[str, Any] = {"network": "0f", "engine": "none", "data": "x", "size": None}
FRAMES = 4


class StaticTracker:
    """A tracker for which nothing moves; counts its steps."""

    def __init__(self, on_step: Callable[[int], None] = lambda steps: None) -> None:
        self.steps = 0
        self.on_step = on_step

    def open(self, frame: Frame, mask: Labels) -> StaticTracker:
        self.mask = mask
        return self

    def step(self, frame: Frame) -> Labels:
        self.steps += 1
        self.on_step(self.steps)
        return self.mask

    def add(self, frame: Frame, mask: Labels) -> Labels:
        raise AssertionError("nothing enters late")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return drawn(FRAMES)


@pytest.fixture
def videos(clip: Clip, tmp_path: Path) -> list[VideoFiles]:
    return davis(davis_2017(tmp_path / "davis", {"a": clip, "b": clip[::-1]}), 2017, "val")


def run(
    out: Path,
    videos: list[VideoFiles],
    tracker: StaticTracker,
    *,
    overwrite: bool = False,
    **settings: Any,
) -> list[VideoScore]:
    store = Store(out, {**SETTINGS, **settings})
    store.begin(videos, overwrite=overwrite)
    job = Job(Path("none.s2s"), "none", "fp32", "off", 1, None, False, store)
    return evaluate_videos(job, videos, tracker)


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }


def test_nothing_is_computed_twice(videos: list[VideoFiles], tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = run(out, videos, StaticTracker())
    names = {f"masks/{name}/{index:05d}.png" for name in "ab" for index in range(FRAMES)}
    assert files(out).keys() == {"evaluation.json", "videos/a.json", "videos/b.json", *names}
    before = files(out)
    again = StaticTracker()
    assert run(out, videos, again) == first
    assert again.steps == 0
    assert files(out) == before


def test_a_changed_video_is_computed_again(videos: list[VideoFiles], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, videos, StaticTracker())
    mask = videos[1].masks["00001"]
    mask.write_bytes(videos[1].masks["00003"].read_bytes())
    tracker = StaticTracker()
    run(out, videos, tracker)
    assert tracker.steps == FRAMES - 1


def test_another_setting_is_refused_or_replaces(videos: list[VideoFiles], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, videos, StaticTracker())
    before = files(out)
    with pytest.raises(UserError, match=r"another network \(0f, now 1e\).*--overwrite"):
        run(out, videos, StaticTracker(), network="1e")
    with pytest.raises(UserError, match=r"another size"):
        run(out, videos, StaticTracker(), size=[48, 64])
    assert files(out) == before
    tracker = StaticTracker()
    run(out, videos, tracker, network="1e", overwrite=True)
    assert tracker.steps == 2 * (FRAMES - 1)
    again = StaticTracker()
    run(out, videos, again, network="1e", overwrite=True)
    assert again.steps == 0, "what is right already is not replaced"


def test_another_folder_is_left_alone(videos: list[VideoFiles], tmp_path: Path) -> None:
    root = tmp_path / "davis"
    before = files(root)
    for overwrite in (False, True):
        with pytest.raises(UserError, match="something else than an evaluation"):
            run(root, videos, StaticTracker(), overwrite=overwrite)
    assert files(root) == before
    for text in ("mine", "[]", '{"accuracy": 1}', "[" * 100_000):
        (root / "evaluation.json").write_text(text)
        before = files(root)
        with pytest.raises(UserError, match="something else than an evaluation"):
            run(root, videos, StaticTracker(), overwrite=True)
        assert files(root) == before


def test_files_of_others_in_the_folder_stay(videos: list[VideoFiles], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(out, videos, StaticTracker())
    mine = [
        *("masks/holiday/1.png", "masks/note.txt", "masks/a/note.txt", "videos/note.txt"),
        *("videos/other.json", "note.txt"),
    ]
    for name in mine:
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text("mine")
    run(out, videos[1:], StaticTracker(), network="1e", overwrite=True)
    assert {name for name in files(out) if files(out)[name] == b"mine"} == {*mine}
    assert "masks/a/00000.png" not in files(out) and "videos/a.json" not in files(out)


@pytest.mark.parametrize("name", ["masks", "videos", "masks/a"])
def test_nothing_is_removed_behind_a_link(
    name: str, videos: list[VideoFiles], tmp_path: Path
) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    run(out, videos, StaticTracker())
    (out / name).rename(elsewhere)
    (out / name).symlink_to(elsewhere)
    before = files(elsewhere)
    with pytest.raises(UserError):
        run(out, videos, StaticTracker(), network="1e", overwrite=True)
    assert files(elsewhere) == before


def test_the_videos_of_an_earlier_version_are_known(
    videos: list[VideoFiles], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(out, videos, StaticTracker())
    (out / "evaluation.json").write_text(json.dumps(SETTINGS))
    (out / "masks" / "b").rename(out / "masks" / "b.part")
    run(out, videos[:1], StaticTracker())
    assert [path.name for path in (out / "masks").iterdir()] == ["a"]


@pytest.mark.parametrize("name", ["../mine", "..", ".", "", "/mine", "a/../../mine", 7, None])
def test_names_in_the_folder_lead_nowhere_else(
    name: object, videos: list[VideoFiles], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(out, videos, StaticTracker())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "1.png").write_text("mine")
    (tmp_path / "mine.json").write_text("mine")
    (out / "evaluation.json").write_text(json.dumps({**SETTINGS, "videos": [name]}))
    run(out, videos, StaticTracker())
    assert (tmp_path / "mine" / "1.png").exists() and (tmp_path / "mine.json").exists()


@pytest.mark.parametrize("error", [UserError("no"), KeyboardInterrupt()])
def test_what_ends_early_leaves_only_whole_videos(
    videos: list[VideoFiles], tmp_path: Path, error: BaseException
) -> None:
    def fail(steps: int) -> None:
        if steps == FRAMES:  # the first of the second video
            raise error

    out = tmp_path / "out"
    with pytest.raises(type(error)):
        run(out, videos, StaticTracker(fail))
    names = {f"masks/a/{index:05d}.png" for index in range(FRAMES)}
    assert files(out).keys() == {"evaluation.json", "videos/a.json", *names}
    assert [path.name for path in (out / "masks").iterdir()] == ["a"]
    tracker = StaticTracker()
    run(out, videos, tracker)
    assert tracker.steps == FRAMES - 1


@pytest.mark.parametrize("place", ["evaluation.json", "masks/b.part/00001.png", "videos/a.json"])
def test_a_full_disk_ends_in_a_sentence_and_leaves_only_whole_videos(
    videos: list[VideoFiles], tmp_path: Path, place: str
) -> None:
    """Whatever is written to ``/dev/full`` meets a full disk."""
    out = tmp_path / "out"

    def fill() -> None:
        part = out / f"{place}.part"
        if part.parent.is_dir() and not part.is_symlink():
            part.symlink_to("/dev/full")

    out.mkdir()
    if place == "evaluation.json":
        fill()
    with pytest.raises(UserError, match=r"full; free some space and run the same command again"):
        run(out, videos, StaticTracker(lambda steps: fill()))
    assert not list(out.rglob("*.part"))
    finished = [path.stem for path in out.glob("videos/*.json")]
    assert finished == (["a"] if place.startswith("masks") else [])
    assert sorted(path.name for path in out.glob("masks/*")) == finished
    tracker = StaticTracker()
    run(out, videos, tracker)
    assert tracker.steps == (2 - len(finished)) * (FRAMES - 1)


@pytest.mark.parametrize("name", ["results.json", "results.csv", "submission.zip"])
def test_a_full_disk_when_the_results_are_written(name: str, tmp_path: Path) -> None:
    (tmp_path / "masks" / "a").mkdir(parents=True)
    (tmp_path / "masks" / "a" / "00000.png").write_bytes(bytes(99_999))
    (tmp_path / name).write_text("of before")
    (tmp_path / f"{name}.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=r"full; free some space and run the same command again"):
        match name:
            case "results.json":
                write_json(tmp_path / name, [], {})
            case "results.csv":
                write_csv(tmp_path / name, [])
            case _:
                write_submission(tmp_path / name, tmp_path / "masks", ["a"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["masks", name])
    assert (tmp_path / name).read_text() == "of before"


def test_stale_files_are_removed(videos: list[VideoFiles], tmp_path: Path) -> None:
    """What a kill may leave: masks without a result, half files; and videos no longer asked for."""
    out = tmp_path / "out"
    run(out, videos, StaticTracker())
    expected = files(out)
    (out / "videos" / "b.json").rename(out / "videos" / "b.json.part")
    (out / "masks" / "c.part").mkdir()
    (out / "masks" / "c.part" / "00000.png").write_bytes(b"x")
    (out / "evaluation.json").write_text(json.dumps({**SETTINGS, "videos": ["a", "b", "c"]}))
    (out / "results.json").write_text("{}")
    (out / "notes.txt").write_text("mine")
    tracker = StaticTracker()
    run(out, videos, tracker)
    assert tracker.steps == FRAMES - 1
    found = files(out)
    assert found.pop("notes.txt") == b"mine"
    assert found.keys() == expected.keys()
    run(out, videos[:1], StaticTracker())
    assert not (out / "masks" / "b").exists() and not (out / "videos" / "b.json").exists()


def test_a_result_that_was_tampered_with_is_not_used(
    videos: list[VideoFiles], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(out, videos, StaticTracker())
    data = json.loads((out / "videos" / "a.json").read_text())
    for text in ("", "[]", json.dumps({"key": data["key"]}), json.dumps({**data, "key": "0"})):
        (out / "videos" / "a.json").write_text(text)
        tracker = StaticTracker()
        run(out, videos, tracker)
        assert tracker.steps == FRAMES - 1, text
