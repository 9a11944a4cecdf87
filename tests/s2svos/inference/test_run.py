from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest
from fake_tracker import FakeTracker
from numpy.typing import NDArray
from PIL import Image
from video_files import HEIGHT, WIDTH, cut, picture, reds, write_video

from s2svos import UserError
from s2svos.inference import outputs as module
from s2svos.inference.objects import ObjectRecords
from s2svos.inference.outputs import ResultsFolder
from s2svos.inference.run import InferProgress, RunSummary, default_out, infer
from s2svos.locks import content, locked_folder
from s2svos.pipeline import EndedEarly, Sink, Source, StageFailed
from s2svos.video import reader
from s2svos.video.decoder import TruncatedVideo
from s2svos.video.incoming import Feed, IncomingVideo, evenly_timed
from s2svos.video.masks import FirstMask, davis_palette, read_first_mask, write_mask
from s2svos.video.reader import Video, backwards
from s2svos_engines.confidence import Confidence
from s2svos_engines.letterbox import Letterbox

FRAMES = 30

RATE = Fraction(25)


OWN_PALETTE = bytes(range(256)) * 3


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", FRAMES)


def run(
    video: Path,
    out: Path,
    tracker: FakeTracker | None = None,
    *,
    palette: bytes = davis_palette(),
    label: int = 255,
    part: dict[str, int] | None = None,
    **options: Any,
) -> RunSummary:
    opened = Video(video, **(part or {}))
    mask = video.parent / "first.png"
    write_mask(mask, reds(picture(opened.start), label), palette)
    first = read_first_mask(mask, size=(HEIGHT, WIDTH))
    return infer(opened, first, lambda: tracker or FakeTracker(), out=out, **options)


def names(out: Path) -> list[str]:
    return sorted(path.name for path in (out / "masks").iterdir())


def whole(out: Path) -> int:
    """Masks in a folder, all of which must be whole and without a gap."""
    found = names(out)
    assert found == [f"{i:05d}.png" for i in range(len(found))]
    for name in found:
        Image.open(out / "masks" / name).load()
    return len(found)


@pytest.mark.parametrize(("palette", "label"), [(davis_palette(), 255), (OWN_PALETTE, 7)])
def test_masks_overlay_and_facts(clip: Path, tmp_path: Path, palette: bytes, label: int) -> None:
    seen: list[InferProgress] = []
    out = tmp_path / "new" / "out"
    summary = run(clip, out, palette=palette, label=label, report=seen.append)
    assert sorted(path.name for path in out.iterdir()) == ["masks", "overlay.mp4", "run.json"]
    assert whole(out) == FRAMES
    first = out / "masks" / "00000.png"
    assert np.array_equal(np.array(Image.open(first)), reds(picture(0), label))
    for index in range(FRAMES):
        mask = read_first_mask(out / "masks" / f"{index:05d}.png", size=(HEIGHT, WIDTH))
        assert mask.objects == (label,) and mask.palette == palette
        assert (mask.ids != reds(picture(index), label)).mean() < 0.05
    assert len(list(Video(out / "overlay.mp4"))) == FRAMES
    facts = json.loads((out / "run.json").read_text())
    assert (facts["engine"], facts["bundle_sha256"], facts["frames"]) == ("fake", "0f", FRAMES)
    assert (facts["size"], facts["rate"]) == ([WIDTH, HEIGHT], 25)
    assert (facts["complete"], facts["truncated"]) == (True, False)
    assert facts["overlay"] == summary.overlay == str(out / "overlay.mp4")
    assert set(facts["seconds"]) == {
        *("total", "load", "decode", "step", "write_masks", "overlay", "first_mask")
    }
    assert [now.frames for now in seen] == list(range(1, FRAMES + 1))
    assert seen[-1].expected == FRAMES and seen[-1].seconds_left == 0 and seen[-1].rate > 0


def given(folder: Path, index: int) -> FirstMask:
    """The mask of a frame, as a file."""
    path = folder / f"given-{index}.png"
    write_mask(path, reds(picture(index), 255), davis_palette())
    return read_first_mask(path, size=(HEIGHT, WIDTH))


def test_later_masks_and_frames_before(clip: Path, tmp_path: Path) -> None:
    opened = Video(clip, start=5, end=20)
    out, tracker = tmp_path / "out", FakeTracker()
    later = {12: given(tmp_path, 12), 9: given(tmp_path, 9)}
    summary = infer(
        opened, given(tmp_path, 5), lambda: tracker, out=out, later=later, before=opened.part(2, 5)
    )
    assert names(out) == [f"{index:05d}.png" for index in range(2, 20)]
    for index in range(2, 20):
        ids = np.array(Image.open(out / "masks" / f"{index:05d}.png"))
        assert ((ids > 0) != (reds(picture(index)) > 0)).mean() < 0.05
    assert len(list(Video(out / "overlay.mp4"))) == 18
    assert (summary.start, summary.end, summary.frames) == (2, 20, 18)
    facts = json.loads((out / "run.json").read_text())
    assert facts["later_masks"] == {str(i): str(later[i].path) for i in (9, 12)}
    assert [one["id"] for one in facts["objects"]] == [255]


def test_a_mask_of_a_frame_that_does_not_come(clip: Path, tmp_path: Path) -> None:
    first, later = given(tmp_path, 0), {FRAMES + 3: given(tmp_path, 4)}
    with pytest.raises(EndedEarly, match=r"ended before frame 33, whose mask .*given-4.png"):
        infer(Video(clip), first, FakeTracker, out=tmp_path / "out", later=later)
    assert whole(tmp_path / "out") == FRAMES


def test_frames_backwards_in_pieces(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [frame for _, frame in Video(clip, start=3, end=17)]
    monkeypatch.setattr(reader, "_PIECE", 4 * 3 * WIDTH * HEIGHT)
    found = list(backwards(Video(clip, start=3, end=17)))
    assert len(found) == 14
    assert all(np.array_equal(a, b) for a, b in zip(found, reversed(frames), strict=True))


def test_where_an_object_was_lost() -> None:
    records = ObjectRecords()
    sure, unsure, gone = Confidence(0.9, 0.1), Confidence(0.6, 0.1), Confidence(0.0, 0.0)
    for index, one in enumerate([sure, gone, gone, sure, unsure, unsure, gone, sure]):
        records.add(f"{index:05d}", {4: one, 7: sure})
    four, seven = records.summaries({7: "koi"})
    assert four.lost == (("00001", "00002"), ("00006", "00006"))
    assert four.doubtful == (("00004", "00005"),)
    assert four.certainty == pytest.approx((3 * 0.9 + 2 * 0.6) / 5)
    assert four.text == (" Object 4 was out of sight or lost in frames 00001 to 00002, 00006.")
    assert (seven.name, seven.lost, seven.doubtful, seven.text) == ("koi", (), (), "")


def test_part_of_a_video_without_overlay(clip: Path, tmp_path: Path) -> None:
    summary = run(clip, tmp_path / "out", part={"start": 4, "end": 7}, overlay=False)
    assert names(tmp_path / "out") == ["00004.png", "00005.png", "00006.png"]
    assert summary.overlay is None and not (tmp_path / "out" / "overlay.mp4").exists()
    assert (summary.start, summary.end, summary.frames) == (4, 7, 3)


def test_one_frame(clip: Path, tmp_path: Path) -> None:
    summary = run(clip, tmp_path / "out", part={"start": 4, "end": 5})
    assert names(tmp_path / "out") == ["00004.png"] and summary.seconds.first_mask is None


def test_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index in (1, 2, 10):
        Image.fromarray(picture(index)).save(tmp_path / "frames" / f"f{index}.png")
    run(tmp_path / "frames", tmp_path / "out")
    assert names(tmp_path / "out") == ["f1.png", "f10.png", "f2.png"]


def test_overwrite_replaces_only_what_is_ours(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clip, out)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        run(clip, out)
    assert whole(out) == FRAMES
    run(clip, out, part={"end": 3}, overlay=False, overwrite=True)
    assert whole(out) == 3
    assert sorted(path.name for path in out.iterdir()) == ["masks", "notes.txt", "run.json"]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_overwrite_needs_an_earlier_run(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "masks").mkdir(parents=True)
    (out / "masks" / "00000.png").write_bytes(b"truth")
    (out / "overlay.mp4").write_bytes(b"mine")
    for text in (None, "mine", "[]", "{}", '{"frames": 1, "masks": "x"}', "[" * 100_000):
        if text:
            (out / "run.json").write_text(text)
        before = contents(out)
        with pytest.raises(UserError, match="not of an earlier run"):
            run(clip, out, overwrite=True)
        assert contents(out) == before


def test_overwrite_keeps_files_that_came_later(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clip, out, overlay=False, part={"end": 3})
    (out / "masks" / "holiday.png").write_bytes(b"mine")
    (out / "masks" / "00099.png").write_bytes(b"mine")
    run(clip, out, overlay=False, overwrite=True, part={"end": 2})
    assert names(out) == ["00000.png", "00001.png", "00099.png", "holiday.png"]
    assert (out / "masks" / "holiday.png").read_bytes() == b"mine"
    (out / "overlay.mp4").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"overlay.mp4 was not written by an earlier run"):
        run(clip, out, overwrite=True)
    run(clip, out, overwrite=True, overlay=False)
    assert (out / "overlay.mp4").read_bytes() == b"mine"
    (out / "masks" / "00002.png").unlink()
    (out / "masks" / "00002.png").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=r"00002.png was not written by an earlier run"):
        run(clip, out, overwrite=True, overlay=False)
    assert not (tmp_path / "elsewhere").exists()
    assert (out / "masks" / "00099.png").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["masks", "overlay.mp4", "run.json"])
def test_overwrite_follows_no_link(name: str, clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clip, out)
    (out / name).rename(tmp_path / name)
    (out / name).symlink_to(tmp_path / name)
    before = contents(tmp_path)
    with pytest.raises(UserError, match=r"link|not written by|not of an earlier run"):
        run(clip, out, overwrite=True)
    assert contents(tmp_path) == before


def test_overwrite_replaces_what_a_kill_left(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clip, out, overwrite=True)
    expected = {name: data for name, data in contents(out).items() if name != "run.json"}

    class Killed(ResultsFolder):
        """Ends as a process does that is killed: nothing is tidied up."""

        def write_mask(self, name: str, labels: Any, palette: bytes) -> None:
            super().write_mask(name, labels, palette)
            if name == "00004":
                shutil.copytree(out, tmp_path / "killed")

    for already in (False, True):  # within a first run, and within one that replaces another
        if not already:
            shutil.rmtree(out)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("s2svos.inference.run.ResultsFolder", Killed)
            run(clip, out, overwrite=True)
        shutil.rmtree(out)
        (tmp_path / "killed").rename(out)
        for half in ("masks/00005.png.part", "overlay.mp4.part"):
            (out / half).write_bytes(b"half")
        assert (out / "masks" / "00004.png").exists() and not (out / "run.json").exists()
        run(clip, out, overwrite=True)
        again = contents(out)
        assert json.loads(again.pop("run.json"))["complete"]
        assert again == expected


def test_overwrite_knows_the_files_of_earlier_versions(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for index in (1, 2, 10):
        Image.fromarray(picture(index)).save(tmp_path / "frames" / f"f{index}.png")
    for video in (clip, tmp_path / "frames"):
        out = tmp_path / "out"
        run(video, out, overwrite=True)
        facts = json.loads((out / "run.json").read_text())
        del facts["mask_names"]
        (out / "run.json").write_text(json.dumps(facts))
        run(clip, out, overwrite=True, part={"end": 2})
        assert whole(out) == 2


def test_names_that_are_no_text_are_escaped(clip: Path, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \\x.mp4")
    video = Path(shutil.copy(clip, tmp_path / name))
    shutil.copy(clip.parent / "first.png", tmp_path)
    run(video, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "run.json").read_text("utf-8"))["video"] == str(video)


@pytest.mark.parametrize("name", ["12:30 out", "http:", "-o", "a=b", "%05d"])
def test_folders_of_any_name(
    name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run(clip, Path(name), part={"end": 3})
    assert whole(tmp_path / name) == len(list(Video(tmp_path / name / "overlay.mp4"))) == 3


def test_a_folder_that_another_run_has_is_refused(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked_folder(out):
        with pytest.raises(UserError, match="in use by another run"):
            run(clip, out)
        assert not content(out)
    run(clip, out)
    before = contents(out)
    with locked_folder(out), pytest.raises(UserError, match="in use by another run"):
        run(clip, out, overwrite=True)
    assert contents(out) == before


def test_overwrite_spares_earlier_results_until_there_are_new_ones(
    clip: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    run(clip, out)

    def no_engine() -> FakeTracker:
        raise UserError("no engine")

    first = read_first_mask(clip.parent / "first.png", size=(HEIGHT, WIDTH))
    with pytest.raises(UserError, match="no engine"):
        infer(Video(clip), first, no_engine, out=out, overwrite=True)
    assert whole(out) == FRAMES and (out / "overlay.mp4").exists()


def test_inputs_are_not_overwritten(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(clip, out)
    first = read_first_mask(out / "masks" / "00000.png", size=(HEIGHT, WIDTH))
    with pytest.raises(UserError, match="is an input"):
        infer(Video(clip), first, FakeTracker, out=out, overwrite=True)
    with pytest.raises(UserError, match="is an input"):
        run(out / "overlay.mp4", out, overwrite=True)
    assert whole(out) == FRAMES


def test_folders_that_cannot_be_used(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="is a file"):
            run(clip, out)

    def refuse(path: Path, **options: bool) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(UserError, match="permission is denied"):
        run(clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_nothing_is_left_without_a_mask(clip: Path, tmp_path: Path) -> None:
    def refuse(index: int) -> None:
        raise AssertionError("no step may run")

    class Refusing(FakeTracker):
        def open(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> FakeTracker:
            raise UserError("bad mask")

    out = tmp_path / "new" / "out"
    with pytest.raises(UserError, match="bad mask"):
        run(clip, out, Refusing(on_step=refuse))
    with pytest.raises(UserError, match="fewer frames"):
        run(clip, out, part={"start": FRAMES})
    (tmp_path / "small.png").write_bytes((clip.parent / "first.png").read_bytes())
    first = read_first_mask(tmp_path / "small.png", size=(HEIGHT, WIDTH))
    other = write_video(tmp_path / "other.mp4", 3, height=32, width=32)
    with pytest.raises(UserError, match="the video is 32x32"):
        infer(Video(other), first, FakeTracker, out=out)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("frames_per_call", [(1,), (1, 4)])
def test_cut_video_keeps_what_was_whole(
    clip: Path, tmp_path: Path, frames_per_call: tuple[int, ...]
) -> None:
    out, tracker = tmp_path / "out", FakeTracker(frames_per_call=frames_per_call)
    with pytest.raises(TruncatedVideo) as caught:
        run(cut(clip, 0.7), out, tracker)
    assert tracker.calls[-1] < max(frames_per_call) or frames_per_call == (1,)
    assert 2 < whole(out) == caught.value.index + 1 == sum(tracker.calls) + 1 < FRAMES
    assert len(list(Video(out / "overlay.mp4"))) == whole(out)
    facts = json.loads((out / "run.json").read_text())
    assert (facts["complete"], facts["truncated"]) == (False, True)
    assert facts["frames"] == whole(out)


@pytest.mark.parametrize(("frames_per_call", "kept"), [((1,), 12), ((1, 4), 9)])
@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RuntimeError, StageFailed),
        (UserError, UserError),
        (KeyboardInterrupt, KeyboardInterrupt),
    ],
)
def test_failing_step_keeps_what_was_whole(
    clip: Path,
    tmp_path: Path,
    error: type[BaseException],
    raised: type[BaseException],
    frames_per_call: tuple[int, ...],
    kept: int,
) -> None:
    def fail(index: int) -> None:
        if index == 12:
            raise error("no memory")

    out = tmp_path / "out"
    with pytest.raises(raised) as caught:
        run(clip, out, FakeTracker(on_step=fail, frames_per_call=frames_per_call))
    assert type(caught.value) is raised
    if raised is StageFailed:
        assert "Following with fake failed with RuntimeError: no memory (" in str(caught.value)
        assert type(caught.value.__cause__) is error
    assert caught.value.__notes__[0].startswith(f"{kept} frames: masks to")
    assert whole(out) == len(list(Video(out / "overlay.mp4"))) == kept
    facts = json.loads((out / "run.json").read_text())
    assert (facts["complete"], facts["truncated"], facts["frames"]) == (False, False, kept)


@pytest.mark.parametrize(
    ("max_in_flight", "frames_per_call", "calls"),
    [
        (1, (1,), [1] * 29),
        (1, (1, 4), [4] * 7 + [1]),
        (1, (1, 2, 8), [8] * 3 + [2, 2, 1]),
        (1, (1, 64), [1] * 29),
        (2, (1,), [1] * 29),
        (3, (1, 4), [4] * 7 + [1]),
    ],
)
def test_frames_of_a_file_are_stepped_together(
    clip: Path,
    tmp_path: Path,
    max_in_flight: int,
    frames_per_call: tuple[int, ...],
    calls: list[int],
) -> None:
    seen: list[InferProgress] = []
    tracker = FakeTracker(frames_per_call=frames_per_call, max_in_flight=max_in_flight)
    summary = run(clip, tmp_path / "out", tracker, label=1, report=seen.append)
    assert tracker.calls == calls  # after the first frame, whose mask is given
    assert tracker.in_flight == min(max_in_flight, len(calls))
    assert whole(tmp_path / "out") == summary.frames == FRAMES
    for name, frame in islice(Video(clip), 1, None):
        mask = np.array(Image.open(tmp_path / "out" / "masks" / f"{name}.png"))
        assert np.array_equal(mask, reds(Letterbox.of(mask.shape, mask.shape).resize(frame)))
    assert [now.frames for now in seen] == list(range(1, FRAMES + 1))
    facts = json.loads((tmp_path / "out" / "run.json").read_text())
    assert facts["frames_per_call"] == summary.frames_per_call == max(frames_per_call)


def sent(frames: int, *, live: bool, then: Callable[[], Any] = list) -> IncomingVideo:
    """A video that arrives: so many pictures, and then what ``then`` does."""

    def pictures() -> Iterator[NDArray[np.uint8]]:
        yield from map(picture, range(1, frames))
        then()

    feed = Feed(picture(0), evenly_timed(pictures(), RATE), RATE, live, frames)
    return IncomingVideo("sender", lambda: feed, timeout=3)


def follow(video: IncomingVideo, out: Path, tracker: FakeTracker) -> RunSummary:
    write_mask(out.parent / "first.png", reds(picture(0)), davis_palette())
    first = read_first_mask(out.parent / "first.png", size=(HEIGHT, WIDTH))
    return infer(video, first, lambda: tracker, out=out)


@pytest.mark.parametrize("live", [True, False])
def test_frames_of_a_live_video_do_not_wait_for_each_other(tmp_path: Path, live: bool) -> None:
    tracker = FakeTracker(frames_per_call=(1, 4), max_in_flight=2 if live else 1)
    summary = follow(sent(10, live=live), tmp_path / "out", tracker)
    assert summary.frames_per_call == max(tracker.calls) == (1 if live else 4)
    assert summary.frames + (summary.dropped or 0) == 10


def test_a_sender_that_waits_for_each_mask(tmp_path: Path) -> None:
    """However many calls the engine could have under way."""
    masks = tmp_path / "out" / "masks"

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for index in range(1, 6):
            while not (masks / f"{index - 1:05}.png").exists():
                time.sleep(0.01)
            yield picture(index)

    feed = Feed(picture(0), evenly_timed(pictures(), RATE), RATE, False, 6)
    video = IncomingVideo("sender", lambda: feed, timeout=120)
    assert follow(video, tmp_path / "out", FakeTracker(max_in_flight=4)).frames == 6


def test_silence_within_a_call(tmp_path: Path) -> None:
    release, tracker = Event(), FakeTracker(frames_per_call=(1, 4))
    with pytest.raises(EndedEarly, match="no frame for"):
        follow(sent(8, live=False, then=release.wait), tmp_path / "out", tracker)
    release.set()
    assert tracker.calls == [4, 1, 1, 1] and whole(tmp_path / "out") == 8


@pytest.mark.parametrize("error", [RuntimeError("lens fell off"), UserError("unplugged")])
def test_a_reader_that_dies_within_a_call(tmp_path: Path, error: Exception) -> None:
    def die() -> None:
        raise error

    tracker = FakeTracker(frames_per_call=(1, 4))
    with pytest.raises(UserError, match=str(error)):
        follow(sent(8, live=False, then=die), tmp_path / "out", tracker)
    assert tracker.calls == [4, 1, 1, 1] and whole(tmp_path / "out") == 8


def test_ctrl_c_within_a_call(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Source[Any]):
        def __iter__(self) -> Iterator[Any]:
            yield from islice(super().__iter__(), 8)
            raise KeyboardInterrupt

    monkeypatch.setattr("s2svos.inference.run.Source", Interrupted)
    tracker = FakeTracker(frames_per_call=(1, 4))
    with pytest.raises(KeyboardInterrupt):
        run(clip, tmp_path / "out", tracker)
    assert tracker.calls == [4, 1, 1, 1] and whole(tmp_path / "out") == 8


def test_ctrl_c_while_the_results_are_finished(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = module.VideoWriter.close

    def close(writer: module.VideoWriter, *, keep: bool) -> None:
        signal.raise_signal(signal.SIGINT)
        real(writer, keep=keep)

    monkeypatch.setattr(module.VideoWriter, "close", close)
    with pytest.raises(KeyboardInterrupt) as stopped:
        run(clip, tmp_path / "out")
    assert stopped.value.__notes__[0].startswith(f"{FRAMES} frames: masks to")
    assert whole(tmp_path / "out") == FRAMES
    assert json.loads((tmp_path / "out" / "run.json").read_text())["complete"] is True
    assert len(list(Video(tmp_path / "out" / "overlay.mp4"))) == FRAMES


def test_a_writer_that_dies_within_a_call(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, ids: NDArray[np.uint8], palette: bytes) -> None:
        if path.stem == "00007":
            raise MemoryError
        write_mask(path, ids, palette)

    monkeypatch.setattr(module, "write_mask", die)
    with pytest.raises(StageFailed, match=r"Writing .*masks failed with MemoryError"):
        run(clip, tmp_path / "out", FakeTracker(frames_per_call=(1, 4)))
    assert whole(tmp_path / "out") == 7


def test_a_painter_that_dies(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, painted = module.paint, []

    def die(*arguments: Any) -> NDArray[np.uint8]:
        painted.append(arguments)
        if len(painted) == 7:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(module, "paint", die)
    with pytest.raises(StageFailed, match=r"Writing .*overlay.mp4 failed with MemoryError"):
        run(clip, tmp_path / "out")
    assert 6 <= whole(tmp_path / "out") < FRAMES
    assert len(list(Video(tmp_path / "out" / "overlay.mp4"))) == 6


def test_full_disk_while_masks_are_written(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.replace

    def full(path: Path, target: Path) -> None:
        if target.stem.isdigit() and int(target.stem) >= 8:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(path, target)

    monkeypatch.setattr(os, "replace", full)
    out = tmp_path / "out"
    with pytest.raises(UserError, match="the disk is full"):
        run(clip, out)
    assert whole(out) == 8
    assert len(list(Video(out / "overlay.mp4"))) >= 8
    assert json.loads((out / "run.json").read_text())["frames"] == 8


def test_full_disk_at_the_first_mask(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, ids: object, palette: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_mask", full)
    with pytest.raises(UserError, match="the disk is full"):
        run(clip, tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_full_disk_while_the_overlay_is_written(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(writer: object, frame: object, at: int | None) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.VideoWriter, "write", full)
    with pytest.raises(UserError, match="the disk is full"):
        run(clip, tmp_path / "out")
    assert whole(tmp_path / "out") >= 1
    assert [path.name for path in (tmp_path / "out").glob("overlay*")] == []


def test_default_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    assert default_out("elsewhere/bear.mp4") == Path("bear")
    assert default_out("frames") == Path("frames-s2svos")
    (tmp_path / "noending").write_text("")
    assert default_out("noending") == Path("noending-s2svos")


def test_slow_sink_holds_the_source_back() -> None:
    made: list[int] = []

    def make() -> Iterator[int]:
        for item in range(50):
            made.append(item)
            yield item

    source, done = Source(make(), name="numbers", size=2), []
    sink: Sink[int] = Sink(done.append, name="list", size=2)
    for item in source:
        if item == 0:
            time.sleep(0.05)
            assert len(made) <= 4
        sink.put(item)
    assert sink.drain() is None
    assert done == list(range(50)) and sink.done == 50


def test_stages_report_errors_and_let_go() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise ValueError("upstream")

    got = []
    source = Source(broken(), name="numbers")
    with pytest.raises(StageFailed, match=r"numbers failed .*upstream .*test_run.py"):
        for item in source:
            got.append(item)
    assert got == [1]
    source.stop()

    def refuse(item: int) -> None:
        raise ValueError("downstream")

    sink: Sink[int] = Sink(refuse, name="words", size=1)
    with pytest.raises(StageFailed, match=r"Writing words .*downstream"):
        for item in range(10):
            sink.put(item)
    assert isinstance(sink.drain(), StageFailed)

    endless = Source(iter(int, 1), name="noughts", size=1)
    endless.stop()
