"""The examples do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from studio_server import HEIGHT, WIDTH, pond

import s2svos
from s2svos.sample.render import render
from s2svos.video.masks import davis_palette, write_mask

EXAMPLES = Path(__file__).parent.parent / "examples"
FRAMES = 6


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for name in ("a", "b", "c"):
        pond(folder / f"{name}.mp4", FRAMES)
        write_mask(folder / f"{name}.png", next(render(FRAMES, HEIGHT, WIDTH))[1], davis_palette())
    return folder


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    binaries = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(word) for word in words], cwd=cwd, capture_output=True, text=True,
        env={**os.environ, "PATH": binaries, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_follow(videos: Path, tmp_path: Path) -> None:
    told = run(sys.executable, EXAMPLES / "follow.py", videos / "a.mp4", videos / "a.png", "out",
               cwd=tmp_path)  # fmt: skip
    assert "object 1: certainty 0." in told
    assert len(list((tmp_path / "out" / "masks").iterdir())) == FRAMES


def test_boxes(videos: Path, tmp_path: Path) -> None:
    told = run(
        sys.executable, EXAMPLES / "boxes.py", videos / "a.mp4", videos / "a.png", cwd=tmp_path
    )
    assert told.count("object 1: ") == FRAMES - 1


def test_many_streams(videos: Path, tmp_path: Path) -> None:
    told = run(
        sys.executable, EXAMPLES / "many_streams.py", videos / "a.mp4", videos / "a.png",
        cwd=tmp_path,
    )  # fmt: skip
    assert told.count(f"objects seen in {FRAMES - 1} frames") == 3


@pytest.mark.skipif(sys.platform == "win32", reason="there is no Slurm on Windows")
def test_slurm_and_kubernetes_share_the_videos_out(videos: Path, tmp_path: Path) -> None:
    for task in ("0", "1"):
        run("bash", EXAMPLES / "slurm.sh", videos, "results", cwd=tmp_path,
            SLURM_ARRAY_TASK_ID=task, SLURM_ARRAY_TASK_COUNT="2")  # fmt: skip
    done = {path.parent.name for path in (tmp_path / "results").glob("*/run.json")}
    assert done == {"a", "b", "c"}
    job: Any = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())
    (container,) = job["spec"]["template"]["spec"]["containers"]
    words = [word.replace("$(JOB_COMPLETION_INDEX)", "9") for word in container["args"]]
    words[1], words[3] = str(videos), "pods"
    assert words[-1] == f"9/{job['spec']['completions']}"
    told = run("s2svos", *words, cwd=tmp_path)
    assert "0 of 0 videos" in told


def test_the_citation_is_of_this_version() -> None:
    citation: Any = yaml.safe_load((EXAMPLES.parent / "CITATION.cff").read_text())
    assert citation["version"] == s2svos.__version__
