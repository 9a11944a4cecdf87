"""A run that was ended goes on, and its results are those of an undisturbed one."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from studio_server import HEIGHT, WIDTH

import s2svos
from s2svos import UserError
from s2svos.inference import run as module
from s2svos.inference import state
from s2svos.inference.run import Finished, infer
from s2svos.inference.state import STATE, RunState
from s2svos.sample.render import render
from s2svos.video.masks import davis_palette, read_first_mask, write_mask
from s2svos.video.reader import Video
from s2svos.video.writer import VideoWriter
from s2svos_engines.arrays import Frame
from s2svos_engines.tracker import Stream, Tracker

FRAMES, PORTION = 30, 4


class Killed(BaseException):
    """Ends a run wherever it is, as a signal does."""


@pytest.fixture(scope="module")
def tracker() -> Tracker:
    return s2svos.load("lite-fast", window="auto")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    with VideoWriter(folder / "v.mp4", width=WIDTH, height=HEIGHT, rate=module.Fraction(24)) as out:
        for index, (frame, ids) in enumerate(render(FRAMES, HEIGHT, WIDTH)):
            out.write(frame)
            if index in (0, 11, 13):
                write_mask(folder / f"{index}.png", ids, davis_palette())
    return folder


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep a state after every portion of a few frames."""
    monkeypatch.setattr(state, "_SECONDS", 0.0)
    monkeypatch.setattr(module, "PORTION", PORTION)


def follow(inputs: Path, out: Path, tracker: Tracker, **options: Any) -> None:
    start, first = options.pop("start", 0), options.pop("first", 0)
    video = Video(inputs / "v.mp4", start=first)
    size = HEIGHT, WIDTH
    infer(
        video,
        read_first_mask(inputs / f"{first}.png", size=size),
        lambda: tracker,
        out=out,
        later={13: read_first_mask(inputs / "13.png", size=size)},
        before=video.part(start, first) if first else None,
        **options,
    )


def files(out: Path) -> dict[str, bytes]:
    found = {p.relative_to(out).as_posix(): p for p in out.rglob("*") if p.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if name != "run.json"}


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that has the next run end once it has given so many frames."""
    whole = Stream.follow

    def kill(at: int) -> None:
        given = 0

        def follow(self: Stream, frames: Any, **options: Any) -> Iterator[Frame]:
            nonlocal given
            for labels in whole(self, frames, **options):
                if given == at:
                    raise Killed
                given += 1
                yield labels

        monkeypatch.setattr(Stream, "follow", follow)

    return kill


def without_time_to_end(run: Any, tracker: Tracker, error: BaseException) -> None:
    """Leave what there is, as SIGKILL does; but for threads, which end with the process."""
    run.reader.stop()
    run.output._writer.drain()
    run.output._painter.drain()
    run.output._saver.drain()
    raise error


@pytest.mark.parametrize(
    ("first", "at"), [*((0, at) for at in (2, 5, 9, 14, 23, 27)), *((11, at) for at in (2, 7, 15))]
)
def test_it_goes_on_to_the_same_bytes(
    inputs: Path,
    tmp_path: Path,
    tracker: Tracker,
    killed_at: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
    at: int,
    first: int,
) -> None:
    options = {"first": first, "save": ["coco.json"]}
    follow(inputs, tmp_path / "whole", tracker, **options)
    killed_at(at)
    if at % 2:
        monkeypatch.setattr(module._Run, "_finish", without_time_to_end)
    with pytest.raises(Killed):
        follow(inputs, tmp_path / "out", tracker, **options)
    assert (tmp_path / "out" / "run.json").exists() == (at % 2 == 0)
    monkeypatch.undo()
    monkeypatch.setattr(module, "PORTION", PORTION)
    kept = RunState.read(tmp_path / "out" / STATE)
    assert (kept is None) == (at < PORTION)
    follow(inputs, tmp_path / "out", tracker, resume=True, **options)
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    with pytest.raises(Finished, match="holds the whole result"):
        follow(inputs, tmp_path / "out", tracker, resume=True, **options)


@pytest.fixture
def ended(inputs: Path, tmp_path: Path, tracker: Tracker, killed_at: Callable[[int], None]) -> Path:
    killed_at(9)
    with suppress(Killed):
        follow(inputs, tmp_path / "out", tracker)
    return tmp_path / "out"


def test_other_settings_are_refused(
    inputs: Path, ended: Path, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, run = files(ended), (ended / "run.json").read_bytes()
    with pytest.raises(UserError, match="of other options"):
        follow(inputs, ended, tracker, resume=True, snap=True)
    assert files(ended) == before
    assert (ended / "run.json").read_bytes() == run


def test_where_masks_are_missing_it_begins_anew(
    inputs: Path, ended: Path, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(module, "PORTION", PORTION)
    follow(inputs, tmp_path / "whole", tracker, overlay=False)
    (ended / "masks" / "00002.png").unlink()
    follow(inputs, ended, tracker, resume=True, overlay=False)
    assert files(ended) == files(tmp_path / "whole")


def test_without_resume_nothing_is_touched(inputs: Path, ended: Path, tracker: Tracker) -> None:
    before = files(ended)
    with pytest.raises(UserError, match="is not empty"):
        follow(inputs, ended, tracker)
    assert files(ended) == before


def test_what_is_no_state_is_told(inputs: Path, ended: Path, tracker: Tracker) -> None:
    for data in (b"", b"PK", b"\x93NUMPY", np.random.default_rng(0).bytes(3000)):
        (ended / STATE).write_bytes(data)
        with pytest.raises(UserError, match="is no state of a run"):
            follow(inputs, ended, tracker, resume=True)


def test_a_snapshot_of_another_network_is_refused(tracker: Tracker) -> None:
    clip = list(render(2, HEIGHT, WIDTH))
    snapshot = tracker.open(*clip[0]).snapshot()
    plain = s2svos.load(window="off")
    assert tracker.restore(snapshot).ids.tolist() == np.unique(clip[0][1])[1:].tolist()
    with pytest.raises(UserError, match="not of a stream of this tracker"):
        tracker.restore({key: value for key, value in snapshot.items() if key != "state hidden"})
    with pytest.raises(UserError, match="not of a stream of this tracker"):
        tracker.restore({**snapshot, "state hidden": np.zeros(3, np.float32)})
    if any(snapshot["region"][2:] != (HEIGHT, WIDTH)):
        with pytest.raises(UserError, match="window that follows"):
            plain.restore(snapshot)


def test_formats_of_the_network_begin_anew(
    inputs: Path, ended: Path, tracker: Tracker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(module, "PORTION", PORTION)
    follow(inputs, tmp_path / "whole", tracker, save=["tracks.csv"])
    follow(inputs, ended, tracker, resume=True, save=["tracks.csv"])
    assert files(ended) == files(tmp_path / "whole")
    shutil.rmtree(ended)
