"""``s2svos infer``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from s2svos.infer import InferProgress, RunSummary


class EngineChoice(StrEnum):
    """What runs the network."""

    AUTO = "auto"
    OPENVINO = "openvino"
    ONNXRUNTIME = "onnxruntime"


def infer(
    video: Annotated[Path, typer.Argument(help="A video file, or a folder of pictures.")],
    mask: Annotated[
        Path,
        typer.Option(help="Objects on the first frame: PNG, palette index or grey value = id."),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the results; default: the video's name."),
    ] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Network, NAME.s2s; default: the one that ships.")
    ] = None,
    engine: Annotated[EngineChoice, typer.Option(help="What runs it.")] = EngineChoice.AUTO,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Processor threads of a step; default: one a core.")
    ] = None,
    no_overlay: Annotated[
        bool, typer.Option("--no-overlay", help="Write masks only, no overlay.mp4.")
    ] = False,
    start: Annotated[int, typer.Option(help="Index of the frame that the mask is for.")] = 0,
    end: Annotated[int | None, typer.Option(help="Index after the last frame.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run's results in OUT.")
    ] = False,
) -> None:
    """Follow the objects of the first frame's mask through a video."""
    if start < 0:
        raise typer.BadParameter("the first frame has index 0", param_hint="--start")
    if end is not None and end <= start:
        raise typer.BadParameter(f"must be greater than --start, {start}", param_hint="--end")

    from s2svos import default_bundle
    from s2svos.infer import default_out
    from s2svos.infer import infer as run
    from s2svos.video.masks import read_first_mask
    from s2svos.video.read import TruncatedVideo, Video
    from s2svos_engines.tracker import Tracker

    opened = Video(video, start=start, end=end)
    first = read_first_mask(mask, size=(opened.height, opened.width))
    folder = out or default_out(video)
    try:
        with _progress(opened.count) as report:
            summary = run(
                opened,
                first,
                lambda: Tracker.load(
                    bundle or default_bundle(), engine=engine.value, threads=threads
                ),
                out=folder,
                overlay=not no_overlay,
                overwrite=overwrite,
                report=report,
            )
    except (TruncatedVideo, KeyboardInterrupt):
        if (folder / "run.json").exists():
            typer.echo(f"What was done is in {folder}.", err=True)
        raise
    typer.echo(_closing_line(summary))


def _closing_line(summary: RunSummary) -> str:
    seconds = summary.seconds
    rate = summary.frames / max(seconds.total - seconds.load, 1e-9)
    places = f"masks in {summary.masks}"
    if summary.overlay:
        places += f", overlay {summary.overlay}"
    return f"{summary.frames} frames: {places}; {summary.engine}, {rate:.1f} frames/s."


@contextmanager
def _progress(expected: int | None) -> Iterator[Callable[[InferProgress], None] | None]:
    """A bar with frames, rate and time left on a terminal, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[figures]}"),
        console=Console(stderr=True),
    )

    def report(now: InferProgress) -> None:
        left = "" if now.seconds_left is None else f"  {_clock(now.seconds_left)} left"
        bar.update(task, completed=now.frames, figures=f"{now.rate:.1f}/s{left}")

    with bar:
        task = bar.add_task("", total=expected, figures="")
        yield report


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
