"""``s2svos evaluate`` as a user meets it: real processes, the bundle that ships."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from data_sets import HEIGHT, WIDTH, davis_2017, drawn, write_masks, youtube_vos
from numpy.typing import NDArray
from PIL import Image
from processes import blocking, children_of, wait_for_end, wait_until
from typer.testing import CliRunner

import s2svos
from s2svos.cli import app
from s2svos.commands.demo_run import write_video
from s2svos.data.files import read_frame, read_mask
from s2svos_engines.errors import UserError

LENGTH = 6
NAMES = ("a", "b", "c")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "s2svos", "evaluate", *map(str, arguments)]


def evaluate(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, "nothing is shown where there is no terminal"
    return done


def last_frame(davis: Path) -> Path:
    """The frame without which no run ends."""
    return davis / "JPEGImages" / "480p" / NAMES[-1] / f"{LENGTH - 1:05}.jpg"


def result(out: Path) -> tuple[list[Any], dict[str, bytes]]:
    """What has to be the same however it was reached: scores by frame, and every mask."""
    videos = json.loads((out / "results.json").read_text())["videos"]
    masks = {str(path.relative_to(out)): path.read_bytes() for path in out.glob("masks/*/*")}
    return [[video["name"], video["objects"]] for video in videos], masks


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = {name: drawn(LENGTH, seed) for seed, name in enumerate(NAMES)}
    return davis_2017(tmp_path_factory.mktemp("davis"), clips)


@pytest.fixture(scope="module")
def whole(davis: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = evaluate("--davis", davis, "--year", "2017", "--out", out)
    assert "J&F 0." in done.stdout and all(f"\n{name} " in done.stdout for name in NAMES)
    return out


def test_results(whole: Path) -> None:
    written = {"results.json", "results.csv", "j_over_time.png", "worst.png"}
    assert {path.name for path in whole.iterdir()} == {
        "evaluation.json",
        "masks",
        "videos",
        *written,
    }
    data = json.loads((whole / "results.json").read_text())
    assert data["bundle_sha256"] == data["network"]
    assert data["engine"] in ("openvino", "onnxruntime")
    assert data["environment"]["packages"]["s2svos"] == s2svos.__version__
    assert [video["name"] for video in data["videos"]] == list(NAMES)
    objects = [one for video in data["videos"] for one in video["objects"]]
    assert [one["id"] for one in objects] == [1, 2] * 3
    assert all(len(one["per_frame"]["j"]) == LENGTH - 2 for one in objects)
    mean = np.mean([value for one in objects for value in one["per_frame"]["j"]])
    assert data["overall"]["j"]["mean"] == pytest.approx(mean)
    assert data["overall"]["objects"] == 6 and data["overall"]["milliseconds"] > 0
    assert mean > 0.5, "the turtle at least is followed"
    with (whole / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["video"], row["object"]) for row in rows] == [(v, o) for v in NAMES for o in "12"]
    for row, one in zip(rows, objects, strict=True):
        for key in ("mean", "recall", "decay"):
            assert float(row[f"j_{key}"]) == pytest.approx(one["j"][key], abs=1e-6)
            assert float(row[f"f_{key}"]) == pytest.approx(one["f"][key], abs=1e-6)
    for name in ("j_over_time.png", "worst.png"):
        picture = cv2.imread(str(whole / name))
        assert picture is not None and picture.std() > 10


def test_several_at_a_time_and_another_engine_name(
    davis: Path, whole: Path, tmp_path: Path
) -> None:
    engine = json.loads((whole / "results.json").read_text())["engine"]
    options = ("--jobs", "2", "--threads", "1", "--engine", engine)
    evaluate("--davis", davis, "--year", "2017", "--out", tmp_path / "out", *options)
    assert result(tmp_path / "out") == result(whole)


@pytest.mark.parametrize(
    ("jobs", "moment"),
    [("1", "masks/b.part/00002.png"), ("2", "videos/*.json")],
)
def test_killed_and_run_again(
    davis: Path, whole: Path, tmp_path: Path, jobs: str, moment: str
) -> None:
    out = tmp_path / "out"
    arguments = ("--davis", davis, "--year", "2017", "--out", out, "--jobs", jobs)
    with (
        blocking(last_frame(davis)),
        subprocess.Popen(
            command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process,
    ):
        wait_until(lambda: list(out.glob(moment)), process)
        children = children_of(process.pid)
        process.kill()
        process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (out / "results.json").exists()
    wait_for_end(children)
    done = {path.name: path.stat().st_mtime_ns for path in out.glob("videos/*.json")}
    assert len(done) < len(NAMES)
    evaluate(*arguments)
    assert result(out) == result(whole)
    for name, modified in done.items():
        assert (out / "videos" / name).stat().st_mtime_ns == modified, "it was done already"
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize("jobs", ["1", "2"])
@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(davis: Path, tmp_path: Path, jobs: str, times: int) -> None:
    """The second time it may come wherever the first is dealt with: all that counts is the end."""
    out = tmp_path / "out"
    with (
        blocking(last_frame(davis)),
        subprocess.Popen(
            command("--davis", davis, "--year", "2017", "--out", out, "--jobs", jobs),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process,
    ):
        wait_until(lambda: list(out.glob("masks/*.part/00001.png")), process)
        children = children_of(process.pid)
        for _ in range(times):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process
            time.sleep(0.02)
        _, message = process.communicate(timeout=600)
    wait_for_end(children)
    assert not (out / "results.json").exists()
    if times == 2:
        assert process.returncode in (130, -signal.SIGINT)
    else:
        assert process.returncode == 130
        assert "the same command goes on" in message and "Traceback" not in message
        assert not list(out.rglob("*.part"))


def test_a_process_that_is_killed(davis: Path, tmp_path: Path) -> None:
    with (
        blocking(last_frame(davis)),
        subprocess.Popen(
            command("--davis", davis, "--out", tmp_path / "out", "--jobs", "2"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        wait_until(lambda: list(tmp_path.glob("out/masks/*.part/00001.png")), process)
        pids = children_of(process.pid)
        workers = [p for p in pids if "spawn_main" in Path(f"/proc/{p}/cmdline").read_text()]
        os.kill(workers[0], signal.SIGKILL)
        _, message = process.communicate(timeout=600)
    assert process.returncode == 2
    assert "fewer --jobs" in message and "Traceback" not in message


def test_youtube_vos(tmp_path: Path) -> None:
    late = 1
    clips = {name: drawn(LENGTH, seed) for seed, name in enumerate(("one", "two"))}
    root = youtube_vos(tmp_path / "data", clips, late=late)
    out = tmp_path / "out"
    done = evaluate("--youtube-vos", root, "--out", out)
    assert "nothing is scored" in " ".join(done.stdout.split())
    assert not (out / "worst.png").exists()
    required = [f"{5 * index:05d}.png" for index in range(LENGTH - 1)]
    with zipfile.ZipFile(out / "submission.zip") as archive:
        names = [f"Annotations/{name}/{frame}" for name in clips for frame in required]
        assert archive.namelist() == names and archive.testzip() is None
        for name, clip in clips.items():
            given = read_mask(root / "valid" / "Annotations" / name / f"{5 * late:05d}.png")
            for index, frame in enumerate(required):
                with archive.open(f"Annotations/{name}/{frame}") as file, Image.open(file) as image:
                    assert (image.mode, image.size) == ("P", (WIDTH, HEIGHT))
                    assert image.getpalette()[3:6] == [128, 0, 0]
                    ids = np.array(image)
                truth = clip[index][1]
                assert (1 in ids) <= (index >= late)
                assert overlap(ids == 2, truth == 2) > 0.5, "0 in the koi's mask means unknown"
                if index == late:
                    assert np.array_equal(ids == 1, given == 1) and given.any()


def overlap(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    return np.count_nonzero(one & other) / np.count_nonzero(one | other)


def test_clips_and_size(tmp_path: Path) -> None:
    clip = drawn(5)
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "pond.mp4", [frame for frame, _ in clip])
    masks = {
        f"{i:05d}": np.where(ids == 2, 255, 0).astype(np.uint8) for i, (_, ids) in enumerate(clip)
    }
    write_masks(tmp_path / "clips" / "pond", masks)
    out = tmp_path / "out"
    evaluate("--clips", tmp_path / "clips", "--size", "104x60", "--out", out)
    data = json.loads((out / "results.json").read_text())
    assert data["size"] == data["videos"][0]["size"] == [60, 104]
    assert [one["id"] for one in data["videos"][0]["objects"]] == [255]
    assert data["overall"]["j"]["mean"] > 0.5
    assert read_mask(out / "masks" / "pond" / "00004.png").shape == (60, 104)


def test_objects_that_enter_late_in_a_real_clip(clips: Path, tmp_path: Path) -> None:
    """Its second mask is a column narrower than the frames."""
    evaluate("--folder", clips / "judo", "--out", tmp_path)
    data = json.loads((tmp_path / "results.json").read_text())
    objects = data["videos"][0]["objects"]
    assert {one["id"]: one["enters"] for one in objects} == {
        1: "00000",
        2: "00005",
        3: "00008",
        4: "00013",
    }
    frame = read_frame(clips / "judo" / "frames" / "00015.jpg")
    assert read_mask(tmp_path / "masks" / "judo" / "00015.png").shape == frame.shape[:2]


def test_a_bundle_is_evaluated_without_torch_onnx_and_matplotlib(
    davis: Path, tmp_path: Path
) -> None:
    """On a deployment machine none of them is there; the plot's absence is told in a sentence."""
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'matplotlib'): sys.modules[name] = None\n"
        "import importlib.util as util\n"
        "found = util.find_spec\n"
        "util.find_spec = lambda name: None if name == 'matplotlib' else found(name)\n"
        "from s2svos.cli import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "--davis", davis, "--out", tmp_path],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1 and "matplotlib, which is not installed" in done.stderr
    assert (tmp_path / "worst.png").exists() and not (tmp_path / "j_over_time.png").exists()


@pytest.mark.slow
def test_a_checkpoint_is_exported_first(davis: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    from s2svos.network.checkpoint import build, save_checkpoint
    from s2svos.network.config import PaperConfig

    torch.manual_seed(0)
    config = PaperConfig(64, 96, channels=16, fc_channels=32, vgg_width=0.125)
    # Xavier's gain lets the signal die in 13 ReLU layers, and export refuses masks of noise.
    weights = {name: 2**0.5 * value for name, value in build(config).state_dict().items()}
    save_checkpoint(tmp_path / "small.pt", config=config, weights=weights, facts={})
    out = tmp_path / "out"
    arguments = ["evaluate", str(tmp_path / "small.pt"), "--davis", str(davis), "--out", str(out)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    data = json.loads((out / "results.json").read_text())
    assert data["data"] == "DAVIS 2016 val"
    assert data["network"] == sha256((tmp_path / "small.pt").read_bytes()).hexdigest()
    assert data["bundle_sha256"] != data["network"]
    assert data["overall"]["objects"] == len(NAMES), "one foreground a video"


def test_a_checkpoint_without_a_place_to_be_exported_to(
    davis: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.pt").write_bytes(b"")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    arguments = ["evaluate", str(tmp_path / "x.pt"), "--davis", str(davis)]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert isinstance(done.exception, UserError)
    assert "temporary folder" in str(done.exception) and "TMPDIR" in str(done.exception)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pt"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "give one of"),
        (["--davis", ".", "--clips", "."], "give one of"),
        (["--davis", "."], "val.txt is missing"),
        (["--clips", "."], "holds no NAME.mp4"),
        (["--folder", "."], "frames or JPEGImages"),
        (["--youtube-vos", "."], "meta.json is missing"),
        (["--youtube-vos", ".", "--size", "64x48"], "own size"),
        (["--clips", ".", "--split", "val"], "has no splits"),
        (["--clips", ".", "--size", "12by9"], "WIDTHxHEIGHT"),
        (["gone.s2s", "--davis", "DAVIS"], "gone.s2s does not exist"),
        (["gone.pt", "--davis", "DAVIS"], "gone.pt does not exist"),
        (["--davis", "DAVIS", "--out", "DAVIS"], "something else than an evaluation"),
    ],
)
def test_mistakes_end_in_a_sentence_and_code_2(
    arguments: list[str],
    words: str,
    davis: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = [argument.replace("DAVIS", str(davis)) for argument in arguments]
    done = CliRunner().invoke(app, ["evaluate", *places])
    message = " ".join(done.output.replace("│", " ").split())
    if isinstance(done.exception, UserError):
        assert done.exception.exit_code == 2
        message = str(done.exception)
    else:
        assert done.exit_code == 2
    assert words in message
    assert not list(tmp_path.iterdir())
