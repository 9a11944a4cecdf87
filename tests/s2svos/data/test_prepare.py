"""The resized copy of data sets, as files and as a command that is killed."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_sets import davis_2017, drawn, write_frames, write_masks, youtube_vos
from PIL import Image
from processes import TIMEOUT, blocking, children_of, wait_for_end, wait_until

from s2svos.data import layouts
from s2svos.data.config import DataKind
from s2svos.data.files import read_frame, read_mask
from s2svos.data.prepare import PreparedFolder, Summary, prepare
from s2svos.data.resized_copy import Size, parse_source
from s2svos.locks import locked_folder
from s2svos_engines.errors import UserError

CLIP = drawn(5)
SMALL = Size(60)


def contents(root: Path, *, but: tuple[str, ...] = ()) -> dict[str, str]:
    """Every file below a folder, with a digest of what is in it."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.name not in but
    }


def run(
    *sources: Path | str, out: Path, size: Size = SMALL, workers: int = 1, strict: bool = False
) -> Summary:
    configs = [parse_source(str(source)) for source in sources]
    return prepare(configs, out, size=size, workers=workers, strict=strict)


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return davis_2017(tmp_path / "DAVIS", {"a": CLIP, "b": CLIP[:3]})


def test_davis_in_its_own_layout(davis: Path, tmp_path: Path) -> None:
    before, out = contents(davis), tmp_path / "out"
    reports: list[tuple[int, int]] = []
    configs = [parse_source(str(davis))]
    summary = prepare(configs, out, size=SMALL, workers=1, report=lambda *now: reports.append(now))
    assert contents(davis) == before
    assert (summary.files, summary.made, summary.skipped.errors) == (18, 18, {})
    assert reports[0] == (0, 18)
    assert reports[-1] == (18, 18)
    for old, new in zip(
        layouts.davis(davis, 2017, "val"), layouts.davis(out, 2017, "val"), strict=True
    ):
        assert [path.name for path in new.frames] == [path.name for path in old.frames]
        for stem, path in new.masks.items():
            mask, original = read_mask(path), read_mask(old.masks[stem])
            assert mask.shape == (60, 104)
            small = cv2.resize(original, (104, 60), interpolation=cv2.INTER_NEAREST_EXACT)
            assert (mask == small).all()
            with Image.open(path) as image, Image.open(old.masks[stem]) as before_it:
                assert image.mode == "P"
                assert image.getpalette() == before_it.getpalette()
        for path, original_path in zip(new.frames, old.frames, strict=True):
            frame = read_frame(original_path)
            small = cv2.resize(frame, (104, 60), interpolation=cv2.INTER_AREA)
            assert cv2.PSNR(small, read_frame(path)) > 33
    facts = json.loads((out / "prepare.json").read_text())
    assert facts["finished"] is True
    assert facts["settings"]["quality"] == 95
    assert not list(out.rglob("*.part"))


def test_youtube_vos_with_its_list(tmp_path: Path) -> None:
    root = youtube_vos(tmp_path / "YT", {"v": CLIP}, late=2)
    run(root, out=tmp_path / "out", size=Size(48, 80))
    (old,), (new,) = (layouts.youtube_vos(place, "valid") for place in (root, tmp_path / "out"))
    assert (old.listed, old.objects, old.required) == (new.listed, new.objects, new.required)
    assert list(old.masks) == list(new.masks)
    assert read_frame(new.frames[0]).shape == (48, 80, 3)


def test_stills_and_folders_side_by_side(tmp_path: Path) -> None:
    write_frames(tmp_path / "stills" / "set", [CLIP[0][0]])
    write_masks(tmp_path / "stills" / "set", {"00000": CLIP[0][1]})
    frames = tmp_path / "mine" / "frames" / "v"
    frames.mkdir(parents=True)
    Image.fromarray(CLIP[0][0]).save(frames / "0.png")
    Image.fromarray(CLIP[1][0][:30, :40]).save(frames / "1.png")
    write_masks(tmp_path / "mine" / "masks" / "v", {"0": CLIP[0][1]})
    out = tmp_path / "out"
    summary = run(tmp_path / "stills", f"folder={tmp_path / 'mine'}", out=out)
    assert [config.kind for config, _ in summary.folders] == [DataKind.STILLS, DataKind.FOLDER]
    assert [one.name for one in layouts.stills(out / "stills")] == ["set/00000"]
    (video,) = layouts.folder(out / "mine")
    assert [path.name for path in video.frames] == ["0.jpg", "1.jpg"]
    assert read_frame(video.frames[0]).shape == (60, 104, 3)
    assert read_frame(video.frames[1]).shape == (30, 40, 3), "never enlarged"


def test_what_has_the_size_already_is_not_compressed_again(davis: Path, tmp_path: Path) -> None:
    run(davis, out=tmp_path / "out", size=Size(120))
    name = Path("JPEGImages") / "480p" / "a" / "00000.jpg"
    assert (tmp_path / "out" / name).read_bytes() == (davis / name).read_bytes()


def test_a_second_run_makes_what_is_missing(davis: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(davis, out=out)
    whole = contents(out)
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.jpg")}
    lost = out / "Annotations" / "480p" / "a" / "00002.png"
    lost.unlink()
    summary = run(davis, out=out)
    assert (summary.files, summary.made) == (18, 1)
    assert contents(out) == whole
    changed = [path for path, before in times.items() if path.stat().st_mtime_ns != before]
    assert {path.name for path in changed} <= {"00002.jpg"}

    write_frames(davis / "JPEGImages" / "480p" / "c", [CLIP[0][0]])
    assert run(davis, out=out).made == 1
    assert PreparedFolder(out).remove() == 19
    assert not out.exists()


def test_damaged_files_are_left_out_and_counted(davis: Path, tmp_path: Path) -> None:
    frame = davis / "JPEGImages" / "480p" / "a" / "00001.jpg"
    frame.write_bytes(frame.read_bytes()[:500])
    masks = davis / "Annotations" / "480p"
    write_masks(masks / "a", {"00002": np.ones((9, 9), np.uint8)})
    write_masks(masks / "b", {"00009": np.ones((120, 208), np.uint8)})
    out = tmp_path / "out"
    summary = run(davis, out=out)
    assert {path.name for path in summary.skipped.errors} == {"00001.jpg", "00002.png", "00009.png"}
    assert (out / "JPEGImages" / "480p" / "a" / "00002.jpg").is_file()
    skipped = json.loads((out / "prepare.json").read_text())["skipped"]
    assert sorted(Path(path).name for path in skipped) == ["00001.jpg", "00002.png", "00009.png"]
    with pytest.raises(UserError, match=r"00009\.png has no frame"):
        run(davis, out=tmp_path / "strict", strict=True)
    assert not (tmp_path / "strict").exists()


def test_removal_takes_its_own_files_and_nothing_else(davis: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(davis, out=out)
    note = out / "JPEGImages" / "note.txt"
    note.write_text("mine")
    (out / "JPEGImages" / "480p" / "a" / "00000.jpg.part").write_text("of a run that was killed")
    assert PreparedFolder(out).remove() == 18
    assert [path for path in out.rglob("*") if path.is_file()] == [note]
    with pytest.raises(UserError, match="not made by s2svos prepare"):
        PreparedFolder(out).remove()
    with pytest.raises(UserError, match="not made by s2svos prepare"):
        PreparedFolder(davis).remove()
    outside = tmp_path / "evil"
    outside.mkdir()
    (outside / "prepare.txt").write_text("../DAVIS/ImageSets/2017/val.txt\n")
    with pytest.raises(UserError, match="outside"):
        PreparedFolder(outside).remove()
    assert (davis / "ImageSets" / "2017" / "val.txt").is_file()


def test_folders_that_may_not_be_used(davis: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(davis, out=out)
    with pytest.raises(UserError, match="other settings"):
        run(davis, out=out, size=Size(30))
    with pytest.raises(UserError, match="lie in one another"):
        run(davis, out=davis / "small")
    with pytest.raises(UserError, match="lie in one another"):
        run(davis, out=tmp_path)
    full = tmp_path / "full"
    full.mkdir()
    (full / "x").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        run(davis, out=full)
    with pytest.raises(UserError, match="is a file"):
        run(davis, out=full / "x")
    with pytest.raises(UserError, match="same name"):
        run(davis, davis, out=tmp_path / "twice")
    with pytest.raises(UserError, match="no known layout"):
        parse_source(str(full))
    with pytest.raises(UserError, match="not a folder"):
        parse_source("davis=gone")


def test_sizes() -> None:
    assert Size(256).of(480, 854) == (256, 455)
    assert Size(256).of(854, 480) == (455, 256)
    assert Size(256).of(200, 300) == (200, 300)
    assert Size(256, 448).of(200, 300) == (256, 448)
    assert (str(Size(256)), str(Size(256, 448))) == ("256", "256x448")


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "s2svos", "prepare", *map(str, arguments)]


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_stopped_and_run_again_gives_the_same(tmp_path: Path, how: int) -> None:
    """Killed, or all asked to stop, with two processes in the middle of their work."""
    davis = davis_2017(tmp_path / "DAVIS", {"a": CLIP * 4, "b": CLIP * 4})
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run(davis, out=whole)

    asked = command(davis, "--out", cut, "--size", "60", "--workers", "2")
    with blocking(davis / "JPEGImages" / "480p" / "a" / "00003.jpg"):
        pipe = subprocess.PIPE
        first = subprocess.Popen(asked, stderr=pipe, stdout=pipe, text=True, start_new_session=True)
        wait_until(lambda: len(list(cut.rglob("*.jpg"))) >= 10, first)
        children = children_of(first.pid)
        if how == signal.SIGKILL:
            first.kill()
        else:  # as a terminal, a scheduler or an init does
            os.killpg(first.pid, how)
        _, message = first.communicate(timeout=TIMEOUT)
        wait_for_end(children)
    if how != signal.SIGKILL:
        assert first.returncode == 128 + how
        assert not list(cut.rglob("*.part"))
        assert "run the same command again" in message
        assert "Traceback" not in message
    assert len(children) >= 2, "the work is done by other processes"
    assert json.loads((cut / "prepare.json").read_text())["finished"] is False
    done = len([path for path in cut.rglob("*") if path.suffix in (".jpg", ".png")])
    assert done < len(contents(whole)) - 2

    second = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT)
    assert second.returncode == 0, second.stderr
    assert contents(cut) == contents(whole)
    arguments = command("--remove", cut)
    removed = subprocess.run(arguments, capture_output=True, text=True, timeout=TIMEOUT)
    assert removed.returncode == 0
    assert not cut.exists()


def test_a_folder_that_another_run_has_is_refused(davis: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with locked_folder(out), pytest.raises(UserError, match="in use by another run"):
        run(davis, out=out)
    assert not out.exists()
    run(davis, out=out)
    before = contents(out)
    with locked_folder(out), pytest.raises(UserError, match="in use by another run"):
        PreparedFolder(out).remove()
    assert contents(out) == before


def test_removal_follows_no_link(davis: Path, tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    run(davis, out=out)
    videos = out / "JPEGImages" / "480p"
    (videos / "a").rename(elsewhere)
    (videos / "a").symlink_to(elsewhere)
    (videos / "b" / "00000.jpg").unlink()
    (videos / "b" / "00000.jpg").symlink_to(davis / "JPEGImages" / "480p" / "b" / "00000.jpg")
    before = contents(elsewhere), contents(davis)
    PreparedFolder(out).remove()
    assert (contents(elsewhere), contents(davis)) == before
    assert (videos / "a").is_symlink() and (videos / "b" / "00000.jpg").is_symlink()


def test_names_that_are_no_text_are_copied_and_removed(davis: Path, tmp_path: Path) -> None:
    frames = davis / "JPEGImages" / "480p" / "a"
    name = os.fsdecode(b"caf\xe9\xc2\x85.jpg")
    (frames / "00000.jpg").rename(frames / name)
    (davis / "Annotations" / "480p" / "a" / "00000.png").unlink()
    out = tmp_path / "out"
    run(davis, out=out)
    assert (out / "JPEGImages" / "480p" / "a" / name).is_file()
    run(davis, out=out)
    PreparedFolder(out).remove()
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "SOURCE"),
        (["gone"], "--out"),
        (["gone", "--out", "x"], "gone is not a folder"),
        ([".", "--out", "x", "--size", "big"], "448x256"),
        ([".", "--out", "x", "--size", "0x256"], "448x256"),
        ([".", "--out", "x", "--size", "0"], "448x256"),
        ([".", "--out", "x", "--size", "256x448"], "448x256"),
        ([".", "--remove", "x"], "--remove"),
        (["--remove", "gone"], "not made by s2svos"),
    ],
)
def test_mistakes_end_in_a_sentence_and_code_2(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    ended = subprocess.run(
        command(*arguments), cwd=tmp_path, capture_output=True, text=True, timeout=TIMEOUT
    )
    assert ended.returncode == 2
    assert words in ended.stderr
    assert "Traceback" not in ended.stderr
    assert not list(tmp_path.iterdir())


def test_the_command_imports_no_torch(davis: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from s2svos.cli import app\n"
        f"app(['prepare', {str(davis)!r}, '--out', 'out', '--workers', '1'],"
        " standalone_mode=False)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert not {"torch", "onnx", "matplotlib"} & set(ended.stdout.splitlines()[-1].split())


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right there")
def test_links_that_lead_back_are_followed_once(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write_frames(root / "frames" / "a", [frame for frame, _ in CLIP])
    write_masks(root / "masks" / "a", {f"{i:05d}": mask for i, (_, mask) in enumerate(CLIP)})
    for number in range(2):
        (root / "frames" / "a" / f"back{number}").symlink_to(root / "frames")
        (root / "masks" / "a" / f"back{number}").symlink_to(root / "masks")
    assert run(f"folder={root}", out=tmp_path / "out").files == 2 * len(CLIP)
