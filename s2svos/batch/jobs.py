"""The list of videos to follow, and which of them are one machine's."""

from __future__ import annotations

import csv
import glob
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2svos.video.address import is_address
from s2svos.video.pictures import SUFFIXES
from s2svos_engines.errors import UserError
from s2svos_engines.files import is_plain_name

_COLUMNS = {"video", "mask", "out", "start", "end"}


@dataclass(frozen=True)
class Job:
    """A video to follow.

    Args:
        name: of its folder of results.
        video, mask: path or address of each.
        start: index of the frame that the mask is of.
        end: index after the last frame; None for all.
    """

    name: str
    video: str
    mask: str
    start: int = 0
    end: int | None = None


def read_jobs(path: Path) -> list[Job]:
    """Read a list of jobs.

    Args:
        path: a CSV with the columns ``video`` and ``mask`` and, where wanted, ``out`` (a folder's
            name), ``start`` and ``end``; the same as JSON lines; or a folder in which each video
            has its mask beside it, ``NAME.mp4`` or a folder ``NAME`` of pictures with ``NAME.png``.
            Paths are relative to the list's folder.

    Raises:
        UserError: it cannot be read, or two jobs would have one folder.
    """
    try:
        if path.is_dir():
            jobs = _of_folder(path)
        else:
            text = path.read_text("utf-8-sig")
            rows = _json_lines(text) if path.suffix.lower() in (".jsonl", ".json") else _csv(text)
            jobs = [_job(row, number, path) for number, row in enumerate(rows, 1)]
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", "name a list of jobs, or a folder") from error
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise UserError(f"{path} cannot be read as a list of jobs ({error})", _HOW) from error
    if not jobs:
        raise UserError(f"{path} names no video with its mask", _HOW)
    (name, count), *_ = Counter(job.name for job in jobs).most_common(1)
    if count > 1:
        raise UserError(
            f"{count} jobs of {path} would write to one folder, {name}",
            "give each another name in a column out",
        )
    return jobs


_HOW = "write a CSV with the columns video and mask, or lay each mask beside its video"


def shard(jobs: Sequence[Job], number: int, count: int) -> list[Job]:
    """Return the jobs of one of ``count`` machines, which are numbered from 0."""
    return list(jobs[number::count])


def _of_folder(folder: Path) -> list[Job]:
    jobs = []
    for mask in sorted(folder.glob("*.png")):
        videos = [one for one in folder.glob(f"{glob.escape(mask.stem)}.*") if one != mask]
        videos += [mask.with_suffix("")] if mask.with_suffix("").is_dir() else []
        found = [one for one in videos if one.is_dir() or one.suffix.lower() not in SUFFIXES]
        if len(found) > 1:
            names = " and ".join(sorted(one.name for one in found))
            raise ValueError(f"{mask.name} may be of {names}")
        jobs += [Job(mask.stem, str(one), str(mask)) for one in found]
    return jobs


def _csv(text: str) -> Iterable[Mapping[str, Any]]:
    return csv.DictReader(text.splitlines())


def _json_lines(text: str) -> Iterable[Mapping[str, Any]]:
    for line in filter(str.strip, text.splitlines()):
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"{line[:40]!r} is no JSON object")
        yield row


def _job(row: Mapping[str, Any], number: int, path: Path) -> Job:
    unknown = sorted(str(key) for key in row if key not in _COLUMNS)
    if unknown:
        raise ValueError(f"row {number} has {unknown[0]!r}, which is none of {sorted(_COLUMNS)}")
    values = {key: row.get(key) for key in _COLUMNS}
    places = []
    for key in ("video", "mask"):
        value = values[key]
        if not isinstance(value, str) or not value:
            raise ValueError(f"row {number} has no {key}")
        places.append(value if is_address(value) else str(path.parent / value))
    video, mask = places
    name = values["out"] or Path(video).stem
    if not isinstance(name, str) or not is_plain_name(name) or name.startswith("."):
        raise ValueError(f"row {number} has an out that is no folder's name: {name!r}")
    numbers: list[int | None] = []
    for key in ("start", "end"):
        value = values[key]
        if value in (None, ""):
            numbers.append(None)
        elif str(value).isascii() and str(value).isdigit() and len(str(value)) < 10:
            numbers.append(int(str(value)))
        else:
            raise ValueError(f"row {number} has a {key} that is no index of a frame: {value!r}")
    return Job(name, video, mask, numbers[0] or 0, numbers[1])
