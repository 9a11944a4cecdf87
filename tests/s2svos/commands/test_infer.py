"""``s2svos infer`` with pipes: real processes, each with a watchdog."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner
from video_files import HEIGHT, WIDTH, picture, reds, write_video

from s2svos.cli import app
from s2svos.commands.video_source import VideoSource
from s2svos.video.masks import davis_palette, write_mask
from s2svos.video.reader import Video

WATCHDOG = 600  # seconds, far more than any of these takes
SIZE = f"{WIDTH}x{HEIGHT}"
Process = subprocess.Popen[bytes]


def raw(index: int) -> bytes:
    return picture(index).tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_mask(tmp_path / "first.png", reds(picture(0)), davis_palette())
    return tmp_path


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    started: list[Process] = []
    yield started
    for process in started:
        process.kill()
        process.communicate()


def start(
    folder: Path,
    processes: list[Process],
    *arguments: str,
    program: tuple[str, str] = ("-m", "s2svos"),
) -> Process:
    command = [sys.executable, *program, "infer", *arguments, "--threads", "1"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=folder, stdin=pipe, stdout=pipe, stderr=pipe)
    processes.append(process)
    return process


def give(process: Process, data: bytes) -> None:
    assert process.stdin
    process.stdin.write(data)
    process.stdin.flush()


def masks(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("masks/*.png"))


def test_raw_frames_in_and_raw_masks_out(folder: Path, processes: list[Process]) -> None:
    process = start(folder, processes, "-", "--video-size", SIZE, "--mask", "first.png", "-o", "-")
    out, err = process.communicate(b"".join(raw(index) for index in range(4)), timeout=WATCHDOG)
    assert process.returncode == 0, err
    ids = np.frombuffer(out, np.uint8).reshape(-1, HEIGHT, WIDTH)  # and nothing else
    assert len(ids) == 4 and np.array_equal(ids[0], reds(picture(0)))
    assert b"4 frames: masks to standard output" in err
    assert [path.name for path in folder.iterdir()] == ["first.png"]
    # The same as through files.
    (folder / "frames").mkdir()
    for index in range(4):
        Image.fromarray(picture(index)).save(folder / "frames" / f"{index}.png")
    process = start(folder, processes, "frames", "--mask", "first.png", "-o", "out")
    process.communicate(timeout=WATCHDOG)
    for index, mask in enumerate(ids):
        assert np.array_equal(mask, np.array(Image.open(folder / "out/masks" / f"{index}.png")))


def test_what_libraries_print_does_not_mix_with_masks(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from s2svos.video.incoming_sources import masks_only\n"
        "with masks_only() as file:\n"
        "    print('chatter')\n"
        "    os.write(1, b'noise')\n"
        "    file.write(b'mask')\n"
        "print('done')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (run.stdout, sorted(run.stderr)) == ("maskdone\n", sorted("chatter\nnoise"))


def test_a_sender_that_stalls(folder: Path, processes: list[Process]) -> None:
    arguments = ("-", "--video-size", SIZE, "--mask", "first.png", "-o", "out", "--timeout", "3")
    process = start(folder, processes, *arguments)
    give(process, raw(0) + raw(1) + raw(2)[:100])  # and the pipe stays open
    assert process.wait(WATCHDOG) == 1
    assert process.stderr
    err = process.stderr.read().decode()
    assert "standard input has given no frame for 3 s" in err and "Traceback" not in err
    assert "2 frames: masks to" in err
    assert masks(folder / "out") == ["00000.png", "00001.png"]
    assert (folder / "out" / "overlay.mp4").exists()
    assert not list((folder / "out").rglob("*.part"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_asks_to_stop_keeps_what_is_whole(
    number: int, folder: Path, processes: list[Process]
) -> None:
    process = start(
        folder, processes, "-", "--video-size", SIZE, "--mask", "first.png", "-o", "out"
    )
    assert process.stdin
    for index in range(6):
        process.stdin.write(raw(index))
    process.stdin.flush()
    deadline = time.monotonic() + WATCHDOG
    while not (folder / "out" / "masks" / "00003.png").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    _, err = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 128 + number and b"Traceback" not in err, err
    facts = json.loads((folder / "out" / "run.json").read_text())
    masks = sorted(path.name for path in (folder / "out" / "masks").iterdir())
    assert masks == [f"{index:05d}.png" for index in range(facts["frames"])]
    assert facts["complete"] is False and facts["frames"] >= 4
    assert len(list(Video(folder / "out" / "overlay.mp4"))) == facts["frames"]
    assert sorted(path.name for path in (folder / "out").iterdir()) == [
        *("masks", "overlay.mp4", "run.json")
    ]


def test_an_engine_that_dies(folder: Path, processes: list[Process]) -> None:
    code = (
        "from s2svos.cli import main\n"
        "from s2svos_engines.backends.onnxruntime import OnnxRuntimeRunner\n"
        "submit, left = OnnxRuntimeRunner.submit, iter(range(5))\n"
        "def die(runner, frames):\n"
        "    if next(left, None) is None:\n"
        "        raise RuntimeError('bad allocation')\n"
        "    return submit(runner, frames)\n"
        "OnnxRuntimeRunner.submit = die\n"
        "main()\n"
    )
    write_video(folder / "v.mp4", 30)
    arguments = ("v.mp4", "--mask", "first.png", "-o", "out", "--engine", "onnxruntime")
    process = start(folder, processes, *arguments, program=("-c", code))
    _, err = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 1 and b"Traceback" not in err, err
    assert b"Following with onnxruntime failed with RuntimeError: bad allocation (" in err
    assert b"6 frames: masks to" in err
    assert masks(folder / "out") == [f"{index:05d}.png" for index in range(6)]
    assert json.loads((folder / "out" / "run.json").read_text())["complete"] is False
    assert len(list(Video(folder / "out" / "overlay.mp4"))) == 6


def test_a_live_run_until_ctrl_c(folder: Path, processes: list[Process]) -> None:
    arguments = ("-", "--video-size", SIZE, "--mask", "first.png", "-o", "out", "--live")
    process = start(folder, processes, *arguments)
    deadline = time.monotonic() + WATCHDOG
    index = 0
    while len(masks(folder / "out")) < 3:
        assert process.poll() is None and time.monotonic() < deadline
        give(process, raw(index % 20))
        index += 1
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0, err
    assert b"late frames were dropped): masks to" in out
    assert (folder / "out" / "overlay.mp4").exists() and (folder / "out" / "run.json").exists()


def test_nobody_reads_the_masks(folder: Path, processes: list[Process]) -> None:
    process = start(folder, processes, "-", "--video-size", SIZE, "--mask", "first.png", "-o", "-")
    assert process.stdout and process.stderr
    process.stdout.close()
    pour(process.stdin, 200)
    assert process.wait(WATCHDOG) == 1
    err = process.stderr.read().decode()
    assert "has stopped reading" in err and "Traceback" not in err and "Exception" not in err


def pour(pipe: IO[bytes] | None, frames: int) -> None:
    """Writes frames for as long as anyone takes them."""
    assert pipe
    try:
        for index in range(frames):
            pipe.write(raw(index))
        pipe.flush()
    except BrokenPipeError:
        pass


def test_save_a_frame_then_follow_from_it(folder: Path, processes: list[Process]) -> None:
    write_video(folder / "v.mp4", 6)
    process = start(folder, processes, "v.mp4", "--start", "2", "--save-frame", "frame.png")
    out, err = process.communicate(timeout=WATCHDOG)
    assert process.returncode == 0 and b"--mask MASK.png." in out, err
    saved = np.array(Image.open(folder / "frame.png"))
    write_mask(folder / "mask.png", reds(saved), davis_palette())
    arguments = ("--mask", "mask.png", "--mask-frame", "frame.png", "-o", "out", "--no-overlay")
    process = start(folder, processes, "-", "--video-size", SIZE, *arguments)
    _, err = process.communicate(raw(0) + raw(1), timeout=WATCHDOG)
    assert process.returncode == 0 and masks(folder / "out") == ["00000.png", "00001.png"], err
    process = start(folder, processes, "v.mp4", "--save-frame", "frame.png")
    assert b"--overwrite" in process.communicate(timeout=WATCHDOG)[1] and process.returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--mask m.png", "name one"),
        ("v.mp4 --camera 0 --mask m.png", "name one"),
        ("v.mp4", "--save-frame FRAME.png saves"),
        ("- --mask m.png", "WIDTHxHEIGHT"),
        ("- --size 854 --mask m.png", "is not WIDTHxHEIGHT"),
        ("- --size 0x480 --mask m.png", "is not WIDTHxHEIGHT"),
        ("v.mp4 --size 854x480 --mask m.png", "its own size"),
        ("v.mp4 --fps 25 --mask m.png", "its own rate"),
        ("v.mp4 --live --mask m.png", "no frame is late"),
        ("- --size 854x480 --start 3 --mask m.png", "begins with the frame"),
        ("--camera 0 --fps 0 --mask m.png", "greater than 0"),
        ("--camera 0 --timeout 0 --mask m.png", "greater than 0"),
        ("v.mp4 --mask m.png --save-frame f.png", "stops before a mask"),
        ("v.mp4 --save-frame f.jpg", "NAME.png"),
        ("v.mp4 --mask-frame f.png", "missing"),
    ],
)
def test_options_that_do_not_fit(arguments: str, words: str) -> None:
    run = CliRunner().invoke(app, ["infer", *arguments.split()], env={"COLUMNS": "1000"})
    assert run.exit_code == 2 and words in run.output


@pytest.mark.parametrize(
    ("video", "camera", "name"),
    [
        (None, 1, "camera-1"),
        ("-", None, "stdin"),
        ("rtsp://me:secret@host:554/live/front.sdp", None, "front"),
        ("udp://239.0.0.1:1234", None, "239.0.0.1"),
        ("a/bear.mp4", None, "bear"),
    ],
)
def test_where_results_go(video: str | None, camera: int | None, name: str) -> None:
    chosen = VideoSource(video, camera, size=None, rate=None, live=None, timeout=10)
    assert chosen.default_out() == Path(name)
    assert chosen.incoming == (name != "bear")
