"""What runs and the page have left, in other formats; and what infer saves beside its masks."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from studio_server import HEIGHT, WIDTH, pond

from s2svos.commands.options import FORMAT_NAMES
from s2svos.sample.render import render
from s2svos.saving.formats import FORMATS
from s2svos.studio.project import Project, default_folder
from s2svos.video.masks import davis_palette, write_mask
from s2svos.video.reader import Video

FRAMES = 8


def s2svos(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "s2svos", *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    pond(folder / "pond.mp4", FRAMES)
    write_mask(folder / "first.png", next(render(FRAMES, HEIGHT, WIDTH))[1], davis_palette())
    return folder


@pytest.fixture(scope="module")
def result(inputs: Path) -> Path:
    run = s2svos(
        "infer", "pond.mp4", "--mask", "first.png", "-o", "out", "--name", "1=koi",
        "--save", "alpha.mov", "--save", "tracks.csv", "--save", "layers.mov", cwd=inputs,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return inputs / "out"


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_every_format_can_be_chosen() -> None:
    assert ", ".join(FORMATS) == FORMAT_NAMES


def test_infer_saves_and_tells_which_files_are_its_own(result: Path, inputs: Path) -> None:
    run = json.loads((result / "run.json").read_text())
    objects = [one["id"] for one in run["objects"]]
    assert run["saved"] == ["alpha.mov", "tracks.csv", *(f"layers-{one}.mov" for one in objects)]
    assert all((result / name).is_file() for name in run["saved"])
    table = rows(result / "tracks.csv")
    assert {row["name"] for row in table if row["id"] == "1"} == {"koi"}
    assert all(float(row["confidence"]) > 0.5 for row in table if row["frame"] != "00000")
    copy = inputs / "again"
    shutil.copytree(result, copy)
    (copy / "mine.txt").write_text("mine")
    run_again = s2svos(
        *("infer", "pond.mp4", "--mask", "first.png", "-o", "again", "--overwrite"), cwd=inputs
    )
    assert run_again.returncode == 0, run_again.stderr
    assert {path.name for path in copy.iterdir()} == {
        "masks",
        "overlay.mp4",
        "run.json",
        "mine.txt",
    }


def test_a_strangers_run_json_names_no_files_elsewhere(result: Path, inputs: Path) -> None:
    copy = inputs / "forged"
    shutil.copytree(result, copy)
    (inputs / "victim.txt").write_text("mine")
    run = json.loads((copy / "run.json").read_text())
    run["saved"] += ["../victim.txt", "..", str(inputs / "victim.txt"), 7]
    (copy / "run.json").write_text(json.dumps(run))
    done = s2svos(
        *("infer", "pond.mp4", "--mask", "first.png", "-o", "forged", "--overwrite"), cwd=inputs
    )
    assert done.returncode == 0, done.stderr
    assert (inputs / "victim.txt").read_text() == "mine"


def test_convert_gives_what_infer_saved(result: Path, inputs: Path) -> None:
    out = inputs / "converted"
    out.mkdir()
    done = s2svos(
        "convert", "out", "--to", "tracks.csv", "--to", "coco.json", "-o", out, cwd=inputs
    )
    assert done.returncode == 0, done.stderr
    wanted = [{**row, "confidence": ""} for row in rows(result / "tracks.csv")]
    assert rows(out / "tracks.csv") == wanted
    assert len(json.loads((out / "coco.json").read_text())["images"]) == FRAMES
    again = s2svos("convert", "out", "--to", "coco.json", "-o", out, cwd=inputs)
    assert again.returncode == 2
    assert "exists" in again.stderr


def test_a_project_of_the_page_is_converted(inputs: Path) -> None:
    video = Video(inputs / "pond.mp4")
    project = Project(video, default_folder(inputs / "pond.mp4"))
    for index, (_, ids) in enumerate(render(FRAMES, HEIGHT, WIDTH)):
        if index in (0, 4):
            project.give(index, ids)
        else:
            project.follow(index, ids, {})
    project.name(2, "turtle")
    done = s2svos("convert", "pond.mp4.studio", "--to", "tracks.csv", cwd=inputs)
    assert done.returncode == 0, done.stderr
    table = rows(project.folder / "tracks.csv")
    assert {row["frame"] for row in table} == {f"{i:05d}" for i in range(FRAMES)}
    assert {row["name"] for row in table if row["id"] == "2"} == {"turtle"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["convert", "out", "--to", "gif"], "no format 'gif'"),
        (["convert", ".", "--to", "coco.json"], "holds no results"),
        (["convert", "out", "--to", "coco.json", "--video", "first.png"], "no frames for"),
        (["convert", "out", "--to", "coco.json", "-o", "gone"], "no folder"),
        (["infer", "pond.mp4", "--mask", "first.png", "--save", "gif", "-o", "x"], "no format"),
        (["infer", "pond.mp4", "--mask", "first.png", "--name", "koi", "-o", "x"], "ID=TEXT"),
    ],
)
def test_mistakes_end_in_a_sentence(
    result: Path, inputs: Path, arguments: list[str], words: str
) -> None:
    done = s2svos(*arguments, cwd=inputs)
    assert done.returncode == 2
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert not (inputs / "x").exists()
    assert not (result / "coco.json").exists()


def test_soft_edges_come_from_the_network(result: Path) -> None:
    import av

    with av.open(result / "alpha.mov") as container:
        frames = [frame.to_ndarray(format="rgba") for frame in container.decode(video=0)]
    assert len(frames) == FRAMES
    between = (frames[-1][:, :, 3] > 30) & (frames[-1][:, :, 3] < 220)
    assert between.sum() > 50
    assert np.percentile(frames[-1][:, :, 3], 50) == 0
