"""Many videos, some broken, the batch killed; and the lists that name them."""

from __future__ import annotations

import csv
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import wait_until
from video_files import cut, write_video

from s2svos.batch.jobs import Job, read_jobs, shard
from s2svos.batch.local import run_here
from s2svos.batch.work import Settings
from s2svos.video.masks import davis_palette, write_mask
from s2svos_engines.errors import UserError

HEIGHT, WIDTH, FRAMES, VIDEOS = 48, 64, 8, 40
BROKEN = {3, 11, 19, 27, 35}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 40 videos with masks, of which 5 are broken, each in its own way."""
    folder = tmp_path_factory.mktemp("videos")
    whole = write_video(folder / "whole.mp4", FRAMES)
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[12:28, 4:20] = 1
    for index in range(VIDEOS):
        video, path = folder / f"v{index:02d}.mp4", folder / f"v{index:02d}.png"
        shutil.copy(whole, video)
        write_mask(path, mask, davis_palette())
        if index == 3:
            video.write_bytes(b"no video")
        elif index == 11:
            cut(whole, 0.9).replace(video)
        elif index == 19:
            write_mask(path, np.zeros_like(mask), davis_palette())
        elif index == 27:
            write_mask(path, mask[:-4], davis_palette())
        elif index == 35:
            Image.fromarray(mask).save(path.with_suffix(".jpg"))
            shutil.move(path.with_suffix(".jpg"), path)
    whole.unlink()
    return folder


def arguments(videos: Path, out: Path, *more: str) -> list[str]:
    begin = [sys.executable, "-m", "s2svos", "batch", str(videos), "-o", str(out), "--no-overlay"]
    return [*begin, *more]


def table(out: Path, name: str = "batch.csv") -> dict[str, dict[str, str]]:
    with (out / name).open() as file:
        return {row["job"]: row for row in csv.DictReader(file)}


def check(out: Path) -> None:
    """Check that the 35 whole videos have their results, each once, and the others a sentence."""
    rows = table(out)
    assert len(rows) == VIDEOS
    wrong = {name for name, row in rows.items() if row["state"] not in ("done", "was done")}
    assert wrong == {f"v{index:02d}" for index in BROKEN}
    for name, row in rows.items():
        if name in wrong:
            assert row["error"]
            continue
        assert row["frames"] == str(FRAMES)
        assert json.loads((out / name / "run.json").read_text())["complete"] is True
        masks = sorted(path.name for path in (out / name / "masks").iterdir())
        assert masks == [f"{i:05d}.png" for i in range(FRAMES)]
    assert not list(out.rglob("*.part"))


def test_killed_twice_it_goes_on_and_five_broken_ones_stop_no_other(
    videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = arguments(videos, out, "--processes", "2")
    for number, enough in ((signal.SIGKILL, 8), (signal.SIGTERM, 20)):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        wait_until(lambda enough=enough: len(list(out.glob("*/run.json"))) >= enough, process)
        process.send_signal(number)
        process.communicate()
        assert process.returncode == (-signal.SIGKILL if number == signal.SIGKILL else 143)
    first = {path: path.read_bytes() for path in out.glob("*/run.json")}
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "35 of 40 videos are whole" in " ".join(done.stdout.split())
    assert "Traceback" not in done.stderr
    check(out)
    again = {path: path.read_bytes() for path in first}
    assert sum(again[path] == data for path, data in first.items()) >= 18  # not done anew


def test_shards_are_all_and_each_once(videos: Path, tmp_path: Path) -> None:
    jobs = read_jobs(videos)
    parts = [shard(jobs, number, 3) for number in range(3)]
    assert sorted((job for part in parts for job in part), key=lambda one: one.name) == jobs
    assert [len(part) for part in parts] == [14, 13, 13]
    run = subprocess.run(
        arguments(videos, tmp_path / "out", "--shard", "1/20"), capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert set(table(tmp_path / "out", "batch-1-of-20.csv")) == {"v01", "v21"}


def test_lists_as_csv_and_json_lines(tmp_path: Path) -> None:
    (tmp_path / "jobs.csv").write_text(
        "\ufeffvideo,mask,out,start\na/v.mp4,a/m.png,first,\nb/v.mp4,/m.png,second,12\n", "utf-8"
    )
    wanted = [
        Job("first", str(tmp_path / "a/v.mp4"), str(tmp_path / "a/m.png")),
        Job("second", str(tmp_path / "b/v.mp4"), "/m.png", 12),
    ]
    assert read_jobs(tmp_path / "jobs.csv") == wanted
    lines = [
        {"video": "a/v.mp4", "mask": "a/m.png", "out": "first"},
        {"video": "b/v.mp4", "mask": "/m.png", "out": "second", "start": 12, "end": None},
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    assert read_jobs(tmp_path / "jobs.jsonl") == wanted
    (tmp_path / "far.csv").write_text("video,mask\ns3://bucket/v.mp4?x=1,s3://bucket/m.png\n")
    assert read_jobs(tmp_path / "far.csv")[0].video == "s3://bucket/v.mp4?x=1"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("video,mask\na.mp4,m.png\nb/a.mp4,m.png\n", "2 jobs .* one folder, a"),
        ("video,mask,out\na.mp4,m.png,../victim\n", "no folder's name"),
        ("video,mask,out\na.mp4,m.png,.ssh\n", "no folder's name"),
        ("video,mask,start\na.mp4,m.png,-1\n", "no index of a frame"),
        ("video\na.mp4\n", "has no mask"),
        ("video,mask,speed\na.mp4,m.png,9\n", "'speed'"),
        ("", "names no video"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "jobs.csv").write_text(text)
    with pytest.raises(UserError, match=words):
        read_jobs(tmp_path / "jobs.csv")


def test_a_process_that_dies_costs_one_job(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job whose process is ended twice has failed; the others are done."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def hook(event, given):\n"
        "    if event == 'open' and str(given[0]).endswith('v01.png'):\n"
        "        os._exit(9)\n"
        "sys.addaudithook(hook)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    import s2svos

    settings = Settings(
        str(tmp_path / "out"), s2svos.default_bundle(), "auto", "fp32", "off", 1, False, (), False
    )
    jobs = [job for job in read_jobs(videos) if job.name in ("v00", "v01", "v02", "v04")]
    outcomes = {one.name: one for one in run_here(jobs, settings, 2)}
    assert {name for name, one in outcomes.items() if not one.well} == {"v01"}
    assert "ended from outside" in outcomes["v01"].error
