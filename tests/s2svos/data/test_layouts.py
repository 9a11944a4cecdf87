import json
from pathlib import Path

import numpy as np
import pytest
from data_sets import Clip, davis_2017, drawn, write_frames, write_masks, youtube_vos

from s2svos.data import layouts
from s2svos.data.config import DataConfig, DataKind, parse_data
from s2svos.data.files import BadFileError, SkippedFiles
from s2svos_engines.errors import UserError


@pytest.fixture(scope="module")
def clip() -> Clip:
    return drawn(6)


def stems(paths: tuple[Path, ...]) -> list[str]:
    return [path.stem for path in paths]


def test_davis(tmp_path: Path, clip: Clip) -> None:
    root = davis_2017(tmp_path, {"b": clip, "a": clip[:3]})
    videos = layouts.davis(root, 2017, "val")
    assert [video.name for video in videos] == ["b", "a"]
    assert stems(videos[0].frames) == list(videos[0].masks) == [f"{i:05d}" for i in range(6)]
    assert videos[0].required == tuple(videos[0].masks)
    assert videos[0].objects is None
    assert not videos[0].merge
    assert all(video.merge for video in layouts.davis(root, 2016, "val"))


def test_davis_lists_of_pairs_and_joined_splits(tmp_path: Path, clip: Clip) -> None:
    root = davis_2017(tmp_path, {"b": clip, "a": clip})
    pairs = "".join(
        f"/JPEGImages/480p/{name}/{i:05d}.jpg /Annotations/480p/{name}/{i:05d}.png\n"
        for name in "ab"
        for i in range(6)
    )
    (root / "ImageSets" / "2016" / "pairs.txt").write_text(pairs)
    assert [video.name for video in layouts.davis(root, 2016, "pairs")] == ["a", "b"]
    (root / "ImageSets" / "480p").mkdir()
    (root / "ImageSets" / "480p" / "train.txt").write_text(pairs.splitlines()[0])
    assert [video.name for video in layouts.davis(root, 2016, "train")] == ["a"]
    names = [video.name for video in layouts.davis(root, 2016, "train+val")]
    assert names == ["a", "b", "a"]


def test_davis_frames_need_no_mask_but_masks_need_a_frame(tmp_path: Path, clip: Clip) -> None:
    root = davis_2017(tmp_path, {"a": clip})
    (root / "Annotations" / "480p" / "a" / "00003.png").unlink()
    video = layouts.davis(root, 2017, "val")[0]
    assert len(video.frames) == 6
    assert "00003" not in video.masks
    (root / "JPEGImages" / "480p" / "a" / "00002.jpg").unlink()
    with pytest.raises(UserError, match=r"00002\.png has no frame"):
        layouts.davis(root, 2017, "val")
    skipped = SkippedFiles(strict=False)
    video = layouts.davis(root, 2017, "val", skipped)[0]
    assert list(video.masks) == ["00000", "00001", "00004", "00005"]
    assert [path.name for path in skipped.errors] == ["00002.png"]


def test_davis_mistakes_name_the_path(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(UserError, match=r"2017/train\.txt is missing"):
        layouts.davis(tmp_path, 2017, "train")
    root = davis_2017(tmp_path, {"a": clip})
    (root / "ImageSets" / "2016" / "val.txt").write_text("gone\na\n")
    with pytest.raises(UserError, match="480p/gone is missing"):
        layouts.davis(root, 2016, "val")
    skipped = SkippedFiles(strict=False)
    assert [video.name for video in layouts.davis(root, 2016, "val", skipped)] == ["a"]
    assert skipped.summary().startswith("1 file was skipped, first ")
    (root / "ImageSets" / "2016" / "val.txt").write_text("gone\n")
    with pytest.raises(UserError, match="no video"):
        layouts.davis(root, 2016, "val", skipped)
    (root / "ImageSets" / "2016" / "val.txt").write_text("\n")
    with pytest.raises(UserError, match="lists no video"):
        layouts.davis(root, 2016, "val")


def test_youtube_vos(tmp_path: Path, clip: Clip) -> None:
    video = layouts.youtube_vos(youtube_vos(tmp_path, {"v": clip}, late=2), "valid")[0]
    assert stems(video.frames) == ["00000", "00005", "00010", "00015", "00020", "00025"]
    assert video.objects == {2: "00000", 1: "00010"}
    assert video.required == ("00000", "00005", "00010", "00015", "00020")
    assert list(video.masks) == ["00000", "00010"]
    assert video.listed is not None
    assert video.listed[1] == ("00010", "00015", "00020")


def test_youtube_vos_mistakes_name_the_path(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(UserError, match=r"train/meta\.json is missing"):
        layouts.youtube_vos(tmp_path, "train")
    meta = youtube_vos(tmp_path, {"v": clip, "w": clip}, late=2) / "valid" / "meta.json"
    whole = json.loads(meta.read_text())

    whole["videos"]["v"]["objects"]["1"]["frames"].append("00099")
    meta.write_text(json.dumps(whole))
    with pytest.raises(UserError, match=r"v/00099\.jpg is missing, but meta.json lists it"):
        layouts.youtube_vos(tmp_path, "valid")
    assert len(layouts.youtube_vos(tmp_path, "valid", SkippedFiles(strict=False))) == 2

    for objects in ({}, {"1": {"frames": []}}, {"x": {"frames": ["00000"]}}, None):
        whole["videos"]["v"] = {"objects": objects}
        meta.write_text(json.dumps(whole))
        with pytest.raises(UserError, match=r"JPEGImages/v .*meta\.json"):
            layouts.youtube_vos(tmp_path, "valid")
        skipped = SkippedFiles(strict=False)
        assert [video.name for video in layouts.youtube_vos(tmp_path, "valid", skipped)] == ["w"]
        assert list(skipped.errors) == [tmp_path / "valid" / "JPEGImages" / "v"]
    for text in ("no json", "[]", '{"videos": 3}'):
        meta.write_text(text)
        with pytest.raises(UserError, match=r"meta\.json is no meta\.json"):
            layouts.youtube_vos(tmp_path, "valid")


@pytest.mark.parametrize("names", [("frames", "masks"), ("JPEGImages", "Annotations")])
def test_folder(tmp_path: Path, clip: Clip, names: tuple[str, str]) -> None:
    frames, masks = (tmp_path / name for name in names)
    for video in ("two", "one"):
        write_frames(frames / video, [frame for frame, _ in clip])
        write_masks(masks / video, {"00000": clip[0][1]})
    videos = layouts.folder(tmp_path)
    assert [video.name for video in videos] == ["one", "two"]
    assert len(videos[0].frames) == 6
    assert list(videos[0].masks) == ["00000"]


def test_folder_of_one_video_in_natural_order(tmp_path: Path, clip: Clip) -> None:
    write_frames(tmp_path / "frames", [clip[0][0]] * 3)
    for old, new in (("00000", "f9"), ("00001", "f10"), ("00002", "f100")):
        (tmp_path / "frames" / f"{old}.jpg").rename(tmp_path / "frames" / f"{new}.jpg")
    write_masks(tmp_path / "masks", {"f9": clip[0][1]})
    video = layouts.folder(tmp_path)[0]
    assert video.name == tmp_path.name
    assert stems(video.frames) == ["f9", "f10", "f100"]
    (tmp_path / "frames" / "f9.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"f9\.(png|jpg) has the name of f9"):
        layouts.folder(tmp_path)


def test_folder_mistakes_name_the_path(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no folder frames or JPEGImages"):
        layouts.folder(tmp_path)
    (tmp_path / "frames" / "a").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    with pytest.raises(UserError, match=r"frames/a holds no \.jpeg or \.jpg or \.png"):
        layouts.folder(tmp_path)


def test_stills(tmp_path: Path, clip: Clip) -> None:
    with pytest.raises(UserError, match="holds no pictures with masks"):
        layouts.stills(tmp_path)
    write_frames(tmp_path / "set", [clip[0][0]])
    write_masks(tmp_path / "set", {"00000": clip[0][1]})
    found = layouts.stills(tmp_path)
    assert [one.name for one in found] == ["set/00000"]
    assert found[0].frame == tmp_path / "set" / "00000.jpg"


def test_data_on_the_command_line() -> None:
    assert parse_data("synthetic") == DataConfig(DataKind.SYNTHETIC)
    assert parse_data("synthetic:0.2").weight == 0.2
    assert parse_data("davis=a/b") == DataConfig(DataKind.DAVIS, "a/b")
    assert parse_data("davis2017=x:2") == DataConfig(DataKind.DAVIS, "x", year=2017, weight=2)
    assert parse_data("youtube-vos=x").kind is DataKind.YOUTUBE_VOS
    assert parse_data(r"stills=C:\data").root == r"C:\data"
    assert parse_data("folder=C:/data:3") == DataConfig(DataKind.FOLDER, "C:/data", weight=3)
    assert parse_data("davis2017=x").label == "davis2017"


@pytest.mark.parametrize(
    "text", ["", "davis", "imagenet=x", "synthetic=x", "stills=x:0", "stills=x:-1", "folder=x:nan"]
)
def test_data_that_is_none(text: str) -> None:
    with pytest.raises(UserError):
        parse_data(text)


def test_skipped_files_are_counted_once_and_survive_pickling() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(BadFileError(Path("a.png"), "is gone.")))
    assert (str(error), error.path) == ("a.png is gone.", Path("a.png"))
    skipped = SkippedFiles(strict=False)
    skipped.add(error, error)
    assert list(skipped.errors) == [Path("a.png")]
    assert SkippedFiles().summary() == ""
    with pytest.raises(UserError, match="is gone"):
        SkippedFiles(strict=True).add(error)


def test_masks_are_read_as_ids(tmp_path: Path) -> None:
    from PIL import Image

    from s2svos.data.files import foreground, read_frame, read_mask

    ids = np.array([[0, 1], [7, 255]], np.uint8)
    write_masks(tmp_path, {"palette": ids})
    Image.fromarray(ids).save(tmp_path / "grey.png")
    Image.fromarray(np.dstack([ids] * 3)).save(tmp_path / "colour.png")
    for name in ("palette", "grey", "colour"):
        assert (read_mask(tmp_path / f"{name}.png") == ids).all()
    assert foreground(ids, 7).tolist() == [[0, 0], [255, 0]]
    assert foreground(ids, None).tolist() == [[0, 255], [255, 255]]
    with pytest.raises(BadFileError, match=r"palette\.png is 2x2, but its frame is 5x4"):
        read_mask(tmp_path / "palette.png", (4, 5))
    assert (read_frame(tmp_path / "grey.png") == ids[..., None]).all()


@pytest.mark.parametrize("name", ["../victim", "..", ".", "a/b", "C:\\x", "nul\0", "n" * 300])
def test_a_video_has_the_name_of_a_folder(tmp_path: Path, name: str) -> None:
    """Results are written, and replaced, by a video's name."""
    meta = tmp_path / "valid" / "meta.json"
    meta.parent.mkdir()
    objects = {"1": {"frames": ["00000"]}}
    meta.write_text(json.dumps({"videos": {name: {"objects": objects}}}))
    with pytest.raises(UserError, match=r"meta\.json names a video .* no name of a folder"):
        layouts.youtube_vos(tmp_path, "valid")


def test_lists_of_other_programs(tmp_path: Path) -> None:
    """A list may begin with a byte order mark; one that is no text, or leads out, is refused."""
    split = tmp_path / "ImageSets" / "2017" / "val.txt"
    split.parent.mkdir(parents=True)
    split.write_bytes(b"\xef\xbb\xbfdog\r\n")
    with pytest.raises(UserError, match="480p/dog"):
        layouts.davis(tmp_path, 2017, "val")
    split.write_text("..\n")
    with pytest.raises(UserError, match="no name of a folder"):
        layouts.davis(tmp_path, 2017, "val")
    split.write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="is no text"):
        layouts.davis(tmp_path, 2017, "val")


def test_a_mask_among_the_frames_is_told(tmp_path: Path, clip: Clip) -> None:
    frames = tmp_path / "frames" / "v"
    write_frames(frames, [frame for frame, _ in clip])
    write_masks(frames, {"mask": clip[0][1]})
    write_masks(tmp_path / "masks" / "v", {"00000": clip[0][1]})
    with pytest.raises(UserError, match=r"mask\.png has a name that is not like"):
        layouts.folder(tmp_path)


def test_davis_in_full_resolution(tmp_path: Path, clip: Clip) -> None:
    root = davis_2017(tmp_path, {"dog": clip[:2]})
    for kind in ("JPEGImages", "Annotations"):
        (root / kind / "480p").rename(root / kind / "Full-Resolution")
    (video,) = layouts.davis(root, 2017, "val")
    assert {path.parent.parent.name for path in video.frames} == {"Full-Resolution"}
