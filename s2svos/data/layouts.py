"""Layouts of data sets: DAVIS, YouTube-VOS, plain folders and stills. Nothing is decoded here."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from s2svos.data.files import BadFileError, SkippedFiles
from s2svos.video.reader import natural_key, unlike_name
from s2svos_engines.errors import UserError
from s2svos_engines.files import is_plain_name

FRAMES = {".jpg", ".jpeg", ".png"}
FULL_RESOLUTION = "Full-Resolution"  # DAVIS's name for it


@dataclass(frozen=True)
class VideoFiles:
    """One video of a data set, as files.

    Args:
        name: of the video.
        frames: every frame, in order.
        masks: mask by frame stem, of the annotated frames, in order.
        objects: id to the stem of the frame on which it enters (YouTube-VOS's meta.json); None:
            the ids of the first mask.
        required: stems on which a result is wanted (YouTube-VOS: those in meta.json; else all).
        merge: all ids are one foreground object (DAVIS 2016).
        listed: id to the stems on which the object is annotated (YouTube-VOS); None: wherever
            there is a mask.
    """

    name: str
    frames: tuple[Path, ...]
    masks: dict[str, Path]
    objects: dict[int, str] | None
    required: tuple[str, ...]
    merge: bool
    listed: dict[int, tuple[str, ...]] | None = None


@dataclass(frozen=True)
class StillFiles:
    """One picture with its mask, as files; ``name`` is ``<set>/<stem>``."""

    name: str
    frame: Path
    mask: Path


def davis(
    root: Path, year: int, split: str, skipped: SkippedFiles | None = None
) -> list[VideoFiles]:
    """Return the videos of a split of DAVIS.

    Args:
        root: folder with ``JPEGImages/480p``, ``Annotations/480p`` and ``ImageSets/<year>``;
            ``Full-Resolution`` where there is no ``480p``.
        year: 2016 (whatever is annotated is one object) or 2017 (objects by id).
        split: of ``ImageSets/<year>/<split>.txt``; several are joined with ``+``.
        skipped: records missing videos; None raises the first.

    Raises:
        UserError: the folder, or the split, or all of its videos are missing.
    """
    pictures = root / "JPEGImages"
    full = (pictures / FULL_RESOLUTION).is_dir() and not (pictures / "480p").is_dir()
    size = FULL_RESOLUTION if full else "480p"
    frames, masks = pictures / size, root / "Annotations" / size
    names = [name for part in split.split("+") for name in _davis_names(root, year, part)]
    return _videos(root, names, frames, masks, skipped or SkippedFiles(), merge=year == 2016)


def youtube_vos(root: Path, split: str, skipped: SkippedFiles | None = None) -> list[VideoFiles]:
    """Return the videos of a split of YouTube-VOS 2018 or 2019.

    Args:
        root: folder of splits; each holds ``JPEGImages``, ``Annotations`` and ``meta.json``.
        split: ``train`` or ``valid``.
        skipped: records missing videos; None raises the first.

    Raises:
        UserError: the folder, or its ``meta.json``, or all of its videos are missing or damaged.
    """
    base, skipped = root / split, skipped or SkippedFiles()
    found = []
    for name, entry in _meta(base / "meta.json").items():
        _check_name(name, base / "meta.json")
        try:
            listed = _listed(base / "JPEGImages" / name, entry)
            video = _video(
                name, base / "JPEGImages" / name, base / "Annotations" / name, skipped, merge=False
            )
        except BadFileError as error:
            skipped.add(error)
            continue
        wanted = {stem for stems in listed.values() for stem in stems}
        for stem in sorted(wanted.difference(video.required)):
            path = base / "JPEGImages" / name / f"{stem}.jpg"
            skipped.add(
                BadFileError(path, "is missing, but meta.json lists it", "complete the data set")
            )
        found.append(
            replace(
                video,
                objects={i: stems[0] for i, stems in listed.items()},
                required=tuple(stem for stem in video.required if stem in wanted),
                listed=listed,
            )
        )
    return _not_empty(found, base)


def folder(root: Path, skipped: SkippedFiles | None = None) -> list[VideoFiles]:
    """Return the videos of a plain folder.

    Args:
        root: holds ``frames/<video>/*.jpg`` or ``.png`` (or ``JPEGImages/<video>``) and
            ``masks/<video>/*.png`` (or ``Annotations/<video>``). Pictures that lie directly in
            ``frames`` and ``masks`` are one video with the folder's name.
        skipped: records missing videos; None raises the first.

    Raises:
        UserError: the folders, or all videos in them are missing.
    """
    frames = first_folder(root, "frames", "JPEGImages")
    masks = first_folder(root, "masks", "Annotations")
    names = sorted(path.name for path in frames.iterdir() if path.is_dir())
    if not names:
        return [_video(root.resolve().name, frames, masks, skipped or SkippedFiles(), merge=False)]
    return _videos(root, names, frames, masks, skipped or SkippedFiles(), merge=False)


def stills(root: Path) -> list[StillFiles]:
    """Return every picture ``<set>/<name>.jpg`` below ``root`` that has a mask ``<name>.png``.

    Raises:
        UserError: there is none.
    """
    found = [
        StillFiles(f"{path.parent.name}/{path.stem}", path.with_suffix(".jpg"), path)
        for path in sorted(root.glob("*/*.png"))
    ]
    if not found:
        raise UserError(
            f"{root} holds no pictures with masks", "expected <set>/<name>.jpg and .png"
        )
    return found


def _davis_names(root: Path, year: int, split: str) -> list[str]:
    """Read the names of a split's file: one a line, or DAVIS 2016's pairs of frame and mask."""
    path = root / "ImageSets" / str(year) / f"{split}.txt"
    if not path.is_file() and year == 2016:
        # The first release of DAVIS keeps its lists of pairs by resolution.
        first = root / "ImageSets" / "480p" / f"{split}.txt"
        path = first if first.is_file() else path
    if not path.is_file():
        raise UserError(f"{path} is missing", f"name a folder in DAVIS {year}'s layout")
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no text", "restore it") from error
    entries = [line.split()[0] for line in lines if line.strip()]
    names = [Path(entry).parent.name if "/" in entry else entry for entry in entries]
    if not names:
        raise UserError(f"{path} lists no video", "choose another split")
    for name in names:
        _check_name(name, path)
    return list(dict.fromkeys(names))


def _check_name(name: str, where: Path) -> None:
    """Refuse a video whose name leads out of the folders that it is to name.

    Raises:
        UserError: it does; results of that name would be written, and replaced, anywhere.
    """
    if not is_plain_name(name):
        raise UserError(
            f"{where} names a video {name!r}, which is no name of a folder",
            "get the data set from a source that you trust",
        )


def _videos(
    root: Path, names: list[str], frames: Path, masks: Path, skipped: SkippedFiles, *, merge: bool
) -> list[VideoFiles]:
    found = []
    for name in names:
        try:
            found.append(_video(name, frames / name, masks / name, skipped, merge=merge))
        except BadFileError as error:
            skipped.add(error)
    return _not_empty(found, root)


def _video(
    name: str, frames: Path, masks: Path, skipped: SkippedFiles, *, merge: bool
) -> VideoFiles:
    pictures, annotated = _stems(frames, FRAMES), _stems(masks, {".png"})
    if odd := unlike_name([*pictures]):
        raise BadFileError(
            pictures[odd],
            "has a name that is not like those of the other frames",
            "take it out of the folder, or give it a number as they have",
        )
    for stem in annotated.keys() - pictures.keys():
        path = annotated.pop(stem)
        skipped.add(BadFileError(path, f"has no frame in {frames}", "complete the data set"))
    return VideoFiles(name, tuple(pictures.values()), annotated, None, tuple(pictures), merge=merge)


def _stems(path: Path, suffixes: set[str]) -> dict[str, Path]:
    """Return the pictures of a folder by stem, in order."""
    found: dict[str, Path] = {}
    for file in _sorted(path):
        if file.suffix.lower() in suffixes and not file.name.startswith("."):
            if file.stem in found:
                raise BadFileError(
                    file, f"has the name of {found[file.stem].name}", "leave one a frame"
                )
            found[file.stem] = file
    if not found:
        raise BadFileError(
            path, f"holds no {' or '.join(sorted(suffixes))}", "complete the data set"
        )
    return found


def _sorted(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir(), key=lambda file: natural_key(file.name))
    except FileNotFoundError as error:
        raise BadFileError(path, "is missing", "complete the data set") from error
    except NotADirectoryError as error:
        raise BadFileError(path, "is a file where a folder of pictures is expected.") from error


def _meta(path: Path) -> dict[str, Any]:
    try:
        videos = json.loads(path.read_text("utf-8-sig"))["videos"]
        return dict(sorted(videos.items()))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing", "name a folder in YouTube-VOS's layout") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"{path} is no meta.json of YouTube-VOS", "restore it") from error


def _listed(video: Path, entry: Any) -> dict[int, tuple[str, ...]]:
    """Return the ids of a video with the stems on which each is annotated."""
    try:
        listed = {int(i): tuple(sorted(one["frames"])) for i, one in entry["objects"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadFileError(
            video, "has a damaged entry in meta.json", "restore that file"
        ) from error
    if not listed or not all(listed.values()):
        raise BadFileError(
            video, "has no objects in meta.json, or one without frames", "restore it"
        )
    return listed


def first_folder(root: Path, *names: str) -> Path:
    """Return the first of some folders that exists.

    Raises:
        UserError: none does.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise UserError(f"{root} has no folder {' or '.join(names)}", "name a folder that has one")


def _not_empty(videos: list[VideoFiles], root: Path) -> list[VideoFiles]:
    if not videos:
        raise UserError(f"{root} holds no video that could be used", "complete the data set")
    return videos
