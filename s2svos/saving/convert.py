"""What a run, or the page, has left, as files of other programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2svos.saving.formats import Savers, check_formats, files_of
from s2svos.saving.frame import SavedFrame, SavedVideo
from s2svos.video.decoder import frame_name
from s2svos.video.masks import davis_palette
from s2svos.video.pictures import BROKEN, NoIdsError, read_ids
from s2svos.video.reader import Video
from s2svos_engines.arrays import object_ids
from s2svos_engines.errors import UserError


@dataclass(frozen=True)
class Result:
    """Masks that are there.

    Args:
        video: path of what they are of.
        masks: their files by the name of the frame.
        names: of objects.
        start: first frame of the video that was followed.
    """

    video: Path
    masks: dict[str, Path]
    names: dict[int, str]
    start: int


def read_result(folder: Path) -> Result:
    """Look for masks in a folder of results of ``infer``, or a project of ``studio``.

    Raises:
        UserError: the folder is neither, or damaged.
    """
    try:
        if (folder / "run.json").is_file():
            return _of_run(folder, json.loads((folder / "run.json").read_bytes()))
        if (folder / "project.json").is_file():
            return _of_project(folder, json.loads((folder / "project.json").read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise UserError(f"{folder} cannot be read ({error})", "follow the video again") from error
    raise UserError(
        f"{folder} holds no results of s2svos",
        "name the folder that s2svos infer wrote, or one of s2svos studio",
    )


def _of_run(folder: Path, run: dict[str, Any]) -> Result:
    masks = {path.stem: path for path in (folder / "masks").glob("*.png")}
    names = {int(one["id"]): str(one["name"]) for one in run["objects"] if one.get("name")}
    return Result(Path(run["video"]), masks, names, int(run["start"]))


def _of_project(folder: Path, project: dict[str, Any]) -> Result:
    masks = {
        frame_name(int(path.stem)): path
        for kind in ("followed", "given")  # what was painted is what counts
        for path in sorted((folder / kind).glob("[0-9]*.png"))
    }
    names = {int(one): str(found["name"]) for one, found in project["objects"].items()}
    return Result(folder.with_name(str(project["video"])), masks, names, 0)


def convert(
    result: Result,
    formats: Sequence[str],
    out: Path,
    *,
    video: Path | None = None,
    refine: bool = False,
    overwrite: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Save masks that are there in other formats; their edges are as hard as they are.

    Args:
        result: where they are.
        formats: names of :data:`~s2svos.saving.formats.FORMATS`.
        out: an existing folder for the files.
        video: where the video is now; None for where it was.
        refine: have edges follow those of the picture.
        overwrite: files of these names may be replaced.
        report: called with the number of frames done and of all frames.

    Returns:
        The files.

    Raises:
        UserError: masks or video cannot be read or do not fit, or a file is there or cannot be
            written; then none of the files is left.
    """
    check_formats(formats)
    if not result.masks:
        raise UserError("There are no masks", "follow the objects first")
    opened = Video(video or result.video, start=result.start)
    ids, palettes = set[int](), set[bytes | None]()
    for path in result.masks.values():
        found, palette = _mask(path, opened)
        ids |= set(object_ids(found).tolist())
        palettes.add(palette)
    saved = SavedVideo(
        path=opened.path,
        width=opened.width,
        height=opened.height,
        rate=opened.rate,
        time_base=opened.time_base,
        pixel_aspect=opened.pixel_aspect,
        objects=tuple(sorted(ids)),
        names=result.names,
        palette=next(iter(palettes)) or davis_palette(),
    )
    files = [out / name for name in files_of(formats, saved.objects)]
    if not overwrite and (there := next((path for path in files if path.exists()), None)):
        raise UserError(f"{there} exists", "choose another --out, or replace it with --overwrite")
    savers = Savers(formats, out, saved, refine=refine)
    whole = False
    try:
        for done, shown in enumerate(_frames(opened, result), 1):
            savers.write(shown)
            report(done, len(result.masks))
        whole = True
    finally:
        savers.close(keep=whole)
    return files


def _frames(video: Video, result: Result) -> Iterator[SavedFrame]:
    left = len(result.masks)
    for name, frame, time in video.timed():
        if (path := result.masks.get(name)) is None:
            continue
        ids, _ = _mask(path, video)
        yield SavedFrame(name, frame, ids, time)
        left -= 1
        if not left:
            return
    raise UserError(
        f"{video.path} has no frames for {left} of the masks", "name the right one with --video"
    )


def _mask(path: Path, video: Video) -> tuple[Any, bytes | None]:
    try:
        ids, palette = read_ids(path)
    except (*BROKEN, NoIdsError) as error:
        raise UserError(f"{path} cannot be read as a mask", "move it away") from error
    if ids.shape != (video.height, video.width):
        raise UserError(
            f"{path} is {ids.shape[1]}x{ids.shape[0]}, but {video.path} is "
            f"{video.width}x{video.height}",
            "name the right video with --video",
        )
    return ids, palette
