"""Results as a table on the terminal, as JSON, as CSV, and as the zip for YouTube-VOS's server."""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from s2svos.evaluation.scores import ObjectScore, Overall, Statistics, VideoScore, milliseconds
from s2svos.evaluation.store import GO_ON
from s2svos_engines.files import disk_errors, write_atomically, written_beside

FIGURES = ("mean", "recall", "decay")
COLUMNS = (
    *("video", "object", "enters", "frames"),
    *("j_mean", "j_recall", "j_decay", "f_mean", "f_recall", "f_decay"),
)


def print_table(scores: Sequence[VideoScore]) -> None:
    """Print a row a video and the means over the objects, or a line if nothing was scored."""
    console = Console()
    overall = Overall.of(scores)
    if not overall.objects:
        time = _figure(overall.milliseconds, 1)
        console.print(
            f"Videos followed: {overall.videos}, {time} ms a step; there are no true masks beyond "
            "those that objects start from, so nothing is scored.",
            highlight=False,
        )
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("\nvideo", overflow="fold")
    for column in ("\nobjects", *(f"{one}\n{figure}" for one in "JF" for figure in FIGURES)):
        table.add_column(column, justify="right")
    table.add_column("ms a\nstep", justify="right")
    for score in scores:
        objects = sum(bool(one.frames) for one in score.objects)
        time = _figure(milliseconds([score]), 1)
        table.add_row(score.name, str(objects), *_figures(score.j, score.f), time)
    figures = _figures(overall.j, overall.f)
    time = _figure(overall.milliseconds, 1)
    table.add_row("all", str(overall.objects), *figures, time, style="bold")
    console.print(table)
    console.print(
        f"J&F {overall.j_and_f:.3f}, J {overall.j.mean:.3f}, F {overall.f.mean:.3f}",
        highlight=False,
    )


def write_json(path: Path, scores: Sequence[VideoScore], facts: Mapping[str, Any]) -> None:
    """Write ``facts``, the overall figures, and each video's and object's down to the frame.

    A figure without a scored frame is null.

    Raises:
        UserError: the file cannot be written.
    """
    overall = Overall.of(scores)
    data = {
        **facts,
        "overall": {**asdict(overall), "j_and_f": overall.j_and_f},
        "videos": [_video(score) for score in scores],
    }
    text = json.dumps(_without_nan(data), indent=1, allow_nan=False)
    with disk_errors(path.parent, again=GO_ON):
        write_atomically(path, f"{text}\n".encode())


def write_csv(path: Path, scores: Sequence[VideoScore]) -> None:
    """Write a row an object; figures without a scored frame are empty.

    Raises:
        UserError: the file cannot be written.
    """
    text = io.StringIO(newline="")
    rows = csv.writer(text)
    rows.writerow(COLUMNS)
    for score in scores:
        for one in score.objects:
            j, f = Statistics.of(one.j), Statistics.of(one.f)
            figures = (j.mean, j.recall, j.decay, f.mean, f.recall, f.decay)
            cells = ["" if math.isnan(figure) else f"{figure:.6f}" for figure in figures]
            rows.writerow([score.name, one.id, one.enters, len(one.frames), *cells])
    with disk_errors(path.parent, again=GO_ON):
        # A name may hold bytes that are no text.
        write_atomically(path, text.getvalue().encode(errors="backslashreplace"))


def write_submission(path: Path, masks: Path, names: Sequence[str]) -> None:
    """Pack masks as YouTube-VOS's server takes them: ``Annotations/<video>/<frame>.png``.

    Args:
        path: of the zip.
        masks: folder of a folder a video.
        names: the videos.

    Raises:
        UserError: the file cannot be written.
    """
    with (
        disk_errors(path.parent, again=GO_ON),
        written_beside(path) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in sorted(names):
            for file in sorted((masks / name).glob("*.png")):
                # A fixed time: equal masks give an equal file.
                place = f"Annotations/{name}/{file.name}".encode(errors="backslashreplace").decode()
                member = zipfile.ZipInfo(place)
                member.external_attr = 0o644 << 16
                archive.writestr(member, file.read_bytes())


def _video(score: VideoScore) -> dict[str, Any]:
    return {
        "name": score.name,
        "size": score.size,
        "frames": score.frames,
        "milliseconds": milliseconds([score]),
        "j": asdict(score.j),
        "f": asdict(score.f),
        "objects": [_object(one) for one in score.objects],
    }


def _object(one: ObjectScore) -> dict[str, Any]:
    return {
        "id": one.id,
        "enters": one.enters,
        "j": asdict(Statistics.of(one.j)),
        "f": asdict(Statistics.of(one.f)),
        "per_frame": {"frames": one.frames, "j": one.j, "f": one.f},
    }


def _without_nan(data: Any) -> Any:
    """Replace NaN, which JSON lacks, by null."""
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(value) for value in data]
    return None if isinstance(data, float) and math.isnan(data) else data


def _figures(*measures: Statistics) -> list[str]:
    return [_figure(figure, 3) for one in measures for figure in (one.mean, one.recall, one.decay)]


def _figure(figure: float, digits: int) -> str:
    return "-" if math.isnan(figure) else f"{figure:.{digits}f}"
