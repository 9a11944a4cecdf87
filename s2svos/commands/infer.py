"""``s2svos infer``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2svos.adapt.config import AdaptConfig

if TYPE_CHECKING:
    from s2svos.adapt.config import Adaptation, AdaptProgress
    from s2svos.infer import InferProgress, RunSummary

    Tuned = Callable[[AdaptProgress], None] | None
    Followed = Callable[[InferProgress], None] | None


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
    adapt: Annotated[
        bool,
        typer.Option(
            "--adapt",
            help="Online learning: first tune the network to the objects of the mask, on views "
            "invented from that one frame; needs the extra train.",
        ),
    ] = False,
    adapt_steps: Annotated[
        int, typer.Option(min=1, help="Steps of --adapt; its time grows with them.")
    ] = AdaptConfig.steps,
    adapt_rate: Annotated[
        float, typer.Option(help="Learning rate of --adapt.")
    ] = AdaptConfig.learning_rate,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run's results in OUT.")
    ] = False,
) -> None:
    """Follow the objects of the first frame's mask through a video."""
    if start < 0:
        raise typer.BadParameter("the first frame has index 0", param_hint="--start")
    if end is not None and end <= start:
        raise typer.BadParameter(f"must be greater than --start, {start}", param_hint="--end")
    if not adapt_rate > 0:
        raise typer.BadParameter("must be greater than 0", param_hint="--adapt-rate")

    from s2svos import default_bundle
    from s2svos.commands.extras import needs
    from s2svos.infer import default_out
    from s2svos.infer import infer as run
    from s2svos.video.masks import read_first_mask
    from s2svos.video.read import TruncatedVideo, Video
    from s2svos_engines.tracker import Tracker

    config = AdaptConfig(steps=adapt_steps, learning_rate=adapt_rate)
    if adapt:
        with needs("train"):
            from s2svos.adapt import tune
    opened = Video(video, start=start, end=end)
    first = read_first_mask(mask, size=(opened.height, opened.width))
    folder = out or default_out(video)
    try:
        with _progress(opened.count, config.steps if adapt else None) as (tuned, followed):
            summary = run(
                opened,
                first,
                lambda: Tracker.load(
                    bundle or default_bundle(), engine=engine.value, threads=threads
                ),
                out=folder,
                overlay=not no_overlay,
                overwrite=overwrite,
                adapt=partial(tune.adapt, config=config, threads=threads, report=tuned)
                if adapt
                else None,
                report=followed,
            )
    except (TruncatedVideo, KeyboardInterrupt):
        if (folder / "run.json").exists():
            typer.echo(f"What was done is in {folder}.", err=True)
        raise
    typer.echo(_closing_line(summary))


def _closing_line(summary: RunSummary) -> str:
    seconds, adapted = summary.seconds, summary.adapted
    spent = seconds.load + (adapted.seconds if adapted else 0)
    rate = summary.frames / max(seconds.total - spent, 1e-9)
    places = f"masks in {summary.masks}"
    if summary.overlay:
        places += f", overlay {summary.overlay}"
    line = f"{summary.frames} frames: {places}; {summary.engine}, {rate:.1f} frames/s."
    return f"{_told(adapted)}\n{line}" if adapted else line


def _told(adapted: Adaptation) -> str:
    """What tuning cost and what it gained where the truth is known, which is the first frame."""
    line = (
        f"Tuned to the first frame in {adapted.seconds:.1f} s ({adapted.steps} steps, "
        f"{adapted.device}): J on views invented from it {adapted.before:.3f} before, "
        f"{adapted.after:.3f} after"
    )
    return f"{line}." if adapted.used else f"{line}; the bundle's own weights were kept."


@contextmanager
def _progress(
    expected: int | None, steps: int | None
) -> Iterator[
    tuple[Callable[[AdaptProgress], None] | None, Callable[[InferProgress], None] | None]
]:
    """Bars with rate and time left on a terminal, nothing elsewhere.

    Args:
        expected: frames of the video, or None where it does not say.
        steps: of tuning; None for none.

    Yields:
        what is to be called after every step of tuning, and after every frame.
    """
    if not sys.stderr.isatty():
        yield None, None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}  {task.fields[figures]}"),
        console=Console(stderr=True),
    )

    def tuned(now: AdaptProgress) -> None:
        figures = f"loss {now.loss:.3f}  {_clock(now.seconds_left)} left"
        bar.update(tuning, completed=now.step, figures=figures)

    def followed(now: InferProgress) -> None:
        left = "" if now.seconds_left is None else f"  {_clock(now.seconds_left)} left"
        bar.update(frames, completed=now.frames, figures=f"{now.rate:.1f}/s{left}")

    with bar:
        tuning = bar.add_task("steps of tuning", total=steps, figures="", visible=bool(steps))
        frames = bar.add_task("frames", total=expected, figures="")
        yield tuned, followed


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
