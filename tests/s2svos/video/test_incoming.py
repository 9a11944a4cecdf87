"""Videos that arrive by themselves: late frames, silence, and threads that die."""

from __future__ import annotations

import errno
import json
import os
import weakref
from collections.abc import Callable, Iterator
from fractions import Fraction
from io import FileIO
from itertools import count
from pathlib import Path
from threading import Condition, Event, Thread
from typing import Any

import av
import numpy as np
import pytest
from fake_tracker import FakeTracker
from numpy.typing import NDArray
from PIL import Image
from video_files import HEIGHT, WIDTH, picture, reds

from s2svos import UserError
from s2svos.inference.run import InferProgress, RunSummary, infer
from s2svos.pipeline import EndedEarly, OutputClosed, StageFailed
from s2svos.video.first_frame import read_mask_frame, save_first_frame
from s2svos.video.incoming import Feed, IncomingVideo, evenly_timed
from s2svos.video.incoming_sources import open_raw
from s2svos.video.masks import davis_palette, read_first_mask, write_mask
from s2svos.video.reader import Video

Frame = NDArray[np.uint8]

RATE = Fraction(25)


class Sender:
    """Gives pictures at once, as many as it may, and lets a test wait until they are taken off."""

    def __init__(
        self, frames: int | None, *, allowed: int | None = None, then: Callable[[], None] = list
    ) -> None:
        self._frames = frames
        self._allowed = allowed
        self._then = then
        self._sent = 0
        self._changed = Condition()

    def feed(self, *, live: bool = True) -> Feed:
        frames = self._pictures()
        return Feed(next(frames), evenly_timed(frames, RATE), RATE, live, self._frames)

    def allow(self, frames: int) -> None:
        """Returns when so many have been sent in all."""
        with self._changed:
            self._allowed = frames
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._sent >= frames, 600)

    def _pictures(self) -> Iterator[Frame]:
        for index in count() if self._frames is None else range(self._frames):
            with self._changed:
                assert self._changed.wait_for(self._may_send, 600)
            yield picture(index)
            with self._changed:
                self._sent = index + 1
                self._changed.notify_all()
        self._then()

    def _may_send(self) -> bool:
        return self._allowed is None or self._sent < self._allowed


def follow(
    video: IncomingVideo,
    out: Path | FileIO,
    load: Callable[[], FakeTracker] = FakeTracker,
    **options: Any,
) -> RunSummary:
    folder = out.parent if isinstance(out, Path) else options.pop("folder")
    mask = folder / "first.png"
    write_mask(mask, reds(picture(0)), davis_palette())
    first = read_first_mask(mask, size=(HEIGHT, WIDTH))
    return infer(video, first, load, out=out, **options)


def indices(out: Path) -> list[int]:
    """Of the frames that have a mask, which must be theirs."""
    paths = sorted((out / "masks").iterdir())
    for path in paths:
        assert np.array_equal(np.array(Image.open(path)), reds(picture(int(path.stem))))
    return [int(path.stem) for path in paths]


def facts(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "run.json").read_text())
    return found


def test_late_frames_are_dropped_and_counted(tmp_path: Path) -> None:
    sender, out = Sender(60, allowed=4), tmp_path / "out"

    def arrive(step: int) -> None:
        """While this step lasts."""
        sender.allow({1: 20, 2: 21, 3: 50}.get(step, 60))

    seen: list[InferProgress] = []
    video = IncomingVideo("sender", sender.feed)

    def load() -> FakeTracker:
        sender.allow(4)
        return FakeTracker(on_step=arrive)

    summary = follow(video, out, load, report=seen.append)
    # The mask's own frame and the newest after it; then always the newest.
    assert indices(out) == [0, 3, 19, 20, 49, 59]
    assert summary.dropped == seen[-1].dropped == 54
    assert (summary.frames, summary.complete) == (6, True)
    assert facts(out)["dropped"] == 54
    assert "(54 late frames were dropped)" in summary.tally()
    with av.open(out / "overlay.mp4") as overlay:
        times = [frame.time for frame in overlay.decode(video=0)]
    assert times == pytest.approx([index / 25 for index in indices(out)])


@pytest.mark.parametrize("chosen", [None, False])
def test_what_is_not_live_waits(tmp_path: Path, chosen: bool | None) -> None:
    sender = Sender(60)
    video = IncomingVideo("s", lambda: sender.feed(live=chosen is False), live=chosen, end=50)
    summary = follow(video, tmp_path / "out")
    assert indices(tmp_path / "out") == list(range(50))
    assert summary.dropped is None and summary.frames == summary.end == video.count == 50


def test_end_does_not_wait_for_one_frame_more(tmp_path: Path) -> None:
    sender = Sender(5, then=lambda: Event().wait(120) and None)
    summary = follow(
        IncomingVideo("sender", lambda: sender.feed(live=False), end=5, timeout=120), tmp_path / "o"
    )
    assert summary.frames == 5 and summary.complete


def test_silence_ends_the_run_and_keeps_what_there_is(tmp_path: Path) -> None:
    release, out = Event(), tmp_path / "out"
    sender = Sender(8, then=lambda: release.wait() and None)
    video = IncomingVideo("sender", lambda: sender.feed(live=False), timeout=3)
    with pytest.raises(EndedEarly, match="sender has given no frame for 3 s") as caught:
        follow(video, out)
    release.set()
    assert indices(out) == list(range(8))
    assert len(list(Video(out / "overlay.mp4"))) == 8
    assert (facts(out)["complete"], facts(out)["truncated"]) == (False, True)
    assert caught.value.exit_code == 1 and "8 frames" in caught.value.__notes__[0]


def test_silence_from_the_beginning() -> None:
    release = Event()

    def connect() -> Feed:
        release.wait()
        raise AssertionError

    with pytest.raises(EndedEarly, match="no frame for"):
        IncomingVideo("sender", connect, timeout=0.2)
    release.set()


def test_a_reader_that_dies(tmp_path: Path) -> None:
    def die() -> None:
        raise RuntimeError("lens fell off")

    with pytest.raises(StageFailed, match=r"Reading sender failed .*lens fell off") as caught:
        follow(
            IncomingVideo("sender", lambda: Sender(8, then=die).feed(live=False)), tmp_path / "o"
        )
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert indices(tmp_path / "o") == list(range(8))
    assert facts(tmp_path / "o")["complete"] is False


def test_a_writer_that_dies_while_frames_keep_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(path: Path, ids: NDArray[np.uint8], palette: bytes) -> None:
        if path.stem == "00003":
            raise MemoryError
        write_mask(path, ids, palette)

    monkeypatch.setattr("s2svos.inference.outputs.write_mask", die)
    with pytest.raises(StageFailed, match=r"Writing .*masks failed with MemoryError"):
        endless = Sender(None)
        follow(IncomingVideo("sender", lambda: endless.feed(live=False)), tmp_path / "out")
    assert indices(tmp_path / "out") == [0, 1, 2]


def test_ctrl_c_is_how_a_live_run_ends(tmp_path: Path) -> None:
    def stop(step: int) -> None:
        if step == 5:
            raise KeyboardInterrupt

    summary = follow(
        IncomingVideo("sender", Sender(None).feed),
        tmp_path / "live",
        lambda: FakeTracker(on_step=stop),
    )
    assert summary.complete and summary.frames == 5
    assert len(indices(tmp_path / "live")) == 5
    with pytest.raises(KeyboardInterrupt):
        waiting = Sender(None)
        follow(
            IncomingVideo("sender", lambda: waiting.feed(live=False)),
            tmp_path / "file",
            lambda: FakeTracker(on_step=stop),
        )
    assert indices(tmp_path / "file") == list(range(5))
    assert facts(tmp_path / "file")["complete"] is False


def test_mask_of_a_picture_that_was_saved_before(tmp_path: Path) -> None:
    save_first_frame(IncomingVideo("sender", Sender(3).feed), tmp_path / "frame.png")
    saved = read_mask_frame(tmp_path / "frame.png", size=(HEIGHT, WIDTH))
    assert np.array_equal(saved.frame, picture(0))
    video = IncomingVideo("sender", lambda: Sender(10).feed(live=False))
    tracker = FakeTracker()
    summary = follow(video, tmp_path / "out", lambda: tracker, mask_frame=saved)
    assert sum(tracker.calls) == summary.frames == 10  # the first frame that came has no mask given
    assert summary.mask_frame == facts(tmp_path / "out")["mask_frame"] == str(saved.path)
    assert summary.seconds.first_mask is not None


def test_pictures_that_do_not_fit(tmp_path: Path) -> None:
    Image.fromarray(picture(0, 32, 32)).save(tmp_path / "small.png")
    (tmp_path / "text.png").write_text("no picture")
    for name, words in [("small", "is 32x32"), ("text", "cannot be read"), ("gone", "not exist")]:
        with pytest.raises(UserError, match=words):
            read_mask_frame(tmp_path / f"{name}.png", size=(HEIGHT, WIDTH))
    with pytest.raises(UserError, match="cannot be written"):
        save_first_frame(IncomingVideo("s", Sender(2).feed), tmp_path / "no" / "frame.png")


def test_frames_come_once() -> None:
    video = IncomingVideo("sender", Sender(3).feed)
    assert [name for name, _ in video] == ["00000", "00001", "00002"]
    with pytest.raises(UserError, match="only once"):
        list(video)


def test_memory_does_not_grow_with_the_video(tmp_path: Path) -> None:
    alive = highest = 0

    def gone() -> None:
        nonlocal alive
        alive -= 1

    def pictures(frames: int) -> Iterator[Frame]:
        nonlocal alive, highest
        for index in range(frames):
            frame = picture(index)
            weakref.finalize(frame, gone)
            alive += 1
            highest = max(highest, alive)
            yield frame
            del frame

    def feed() -> Feed:
        frames = pictures(300)
        return Feed(next(frames), evenly_timed(frames, RATE), RATE, live=False)

    assert follow(IncomingVideo("sender", feed), tmp_path / "out").frames == 300
    assert highest <= 16  # four that wait to be stepped, four to be painted, and those in hand


class Pipe:
    """A pipe whose ends are files."""

    def __init__(self) -> None:
        read, write = os.pipe()
        self.read, self.write = FileIO(read, "r"), FileIO(write, "w")


def send(pipe: Pipe, data: bytes) -> None:
    def run() -> None:
        with pipe.write as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]

    Thread(target=run, daemon=True).start()


def raw_video(pipe: Pipe) -> IncomingVideo:
    return IncomingVideo("standard input", lambda: open_raw(pipe.read, size=(WIDTH, HEIGHT)))


def test_raw_frames_from_a_pipe(tmp_path: Path) -> None:
    pipe = Pipe()
    send(pipe, b"".join(picture(index).tobytes() for index in range(12)))
    video = raw_video(pipe)
    assert (video.width, video.height, video.rate, video.live) == (WIDTH, HEIGHT, 24, False)
    summary = follow(video, tmp_path / "out")
    assert summary.complete and indices(tmp_path / "out") == list(range(12))


def test_raw_frames_that_break_off(tmp_path: Path) -> None:
    pipe = Pipe()
    send(pipe, b"".join(picture(index).tobytes() for index in range(5))[:-1000])
    with pytest.raises(EndedEarly, match=r"within frame 4, after 8216 of 9216 .* 64x48, width"):
        follow(raw_video(pipe), tmp_path / "out")
    assert indices(tmp_path / "out") == [0, 1, 2, 3]
    empty, less = Pipe(), Pipe()
    send(empty, b"")
    with pytest.raises(UserError, match="ended before the first frame"):
        raw_video(empty)
    send(less, b"123")
    with pytest.raises(EndedEarly, match="within frame 0"):
        raw_video(less)


def test_raw_masks_to_a_pipe(tmp_path: Path) -> None:
    pipe, got = Pipe(), bytearray()

    def receive() -> None:
        while data := pipe.read.read(1000):
            got.extend(data)

    receiver = Thread(target=receive)
    receiver.start()
    video = IncomingVideo("sender", lambda: Sender(9).feed(live=False))
    summary = follow(video, pipe.write, folder=tmp_path)
    pipe.write.close()
    receiver.join()
    masks = np.frombuffer(got, np.uint8).reshape(-1, HEIGHT, WIDTH)
    assert np.array_equal(masks, np.stack([reds(picture(index)) for index in range(9)]))
    assert (summary.masks, summary.overlay) == ("standard output", None)
    assert [path.name for path in tmp_path.iterdir()] == ["first.png"]


def test_nobody_reads_the_masks_any_more(tmp_path: Path) -> None:
    pipe = Pipe()
    pipe.read.close()
    with pytest.raises(OutputClosed, match="stopped reading"):
        endless = Sender(None)
        video = IncomingVideo("sender", lambda: endless.feed(live=False))
        follow(video, pipe.write, folder=tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_full_disk_behind_standard_output(tmp_path: Path) -> None:
    with (
        FileIO("/dev/full", "w") as full,
        pytest.raises(UserError, match=os.strerror(errno.ENOSPC)),
    ):
        follow(IncomingVideo("sender", Sender(3).feed), full, folder=tmp_path)


@pytest.fixture
def lossless(tmp_path: Path) -> Path:
    """What OpenCV reads back to the bit."""
    path = tmp_path / "clip.avi"
    with av.open(path, "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr24"
        for index in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        container.mux(stream.encode(None))
    return path


def test_camera(lossless: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    from s2svos.video import incoming_sources as camera

    file, asked = cv2.VideoCapture(str(lossless)), []
    monkeypatch.setattr(camera.cv2, "VideoCapture", lambda index: asked.append(index) or file)
    video = IncomingVideo("camera 3", lambda: camera.open_camera(3))
    assert asked == [3] and video.live
    assert (video.width, video.height, video.rate) == (WIDTH, HEIGHT, 25)
    frames = []
    with pytest.raises(EndedEarly, match="camera 3 gives no more frames"):
        for _, frame in video:
            frames.append(frame)
    # The exposure settles on the first ten.
    assert np.array_equal(frames, [picture(index) for index in range(10, 20)])


def test_no_camera(capfd: pytest.CaptureFixture[str]) -> None:
    from s2svos.video.incoming_sources import open_camera

    with pytest.raises(UserError, match="Camera 77 cannot be opened"):
        open_camera(77)
    assert capfd.readouterr().err == ""
