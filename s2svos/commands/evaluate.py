"""``s2svos evaluate``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from s2svos.commands.options import (
    MOST_PROCESSES,
    MOST_THREADS,
    EngineChoice,
    GraphPrecision,
    PrecisionOption,
    WindowChoice,
    WindowOption,
    parse_frame_size,
)


class Year(StrEnum):
    """The years of DAVIS's tasks."""

    Y2016 = "2016"
    Y2017 = "2017"


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle, lite (the default), lite-hq, lite-fast or NAME.s2s, or checkpoint "
            "NAME.pt.",
            show_default=False,
        ),
    ] = None,
    davis: Annotated[Path | None, typer.Option(help="A folder in DAVIS's layout.")] = None,
    youtube_vos: Annotated[
        Path | None, typer.Option(help="A folder in YouTube-VOS's layout, 2018 or 2019.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(help="A folder with frames/VIDEO/*.jpg and masks/VIDEO/*.png.")
    ] = None,
    clips: Annotated[
        Path | None, typer.Option(help="A folder of NAME.mp4 with true masks NAME/00000.png ...")
    ] = None,
    year: Annotated[
        Year, typer.Option(help="Of DAVIS: 2016 has one object a video, 2017 several.")
    ] = Year.Y2016,
    split: Annotated[
        str | None, typer.Option(help="Of DAVIS (default: val) or YouTube-VOS (default: valid).")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="WIDTHxHEIGHT to follow and score at; default: each video's own."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path(
        "evaluation"
    ),
    engine: Annotated[EngineChoice, typer.Option(help="What runs it.")] = "auto",
    window: WindowOption = WindowChoice.AUTO,
    precision: PrecisionOption = GraphPrecision.FP32,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            max=MOST_PROCESSES,
            help="Videos at a time, which share the cores: sooner done, but the time of a step is "
            "then not that of a video alone.",
        ),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_THREADS,
            help="Processor threads of a step; default: the cores / JOBS.",
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option("--overwrite", help="Replace an evaluation with other settings in OUT."),
    ] = False,
) -> None:
    """Score a bundle or checkpoint by J and F on videos with true masks.

    Run again after an interruption, it goes on: what OUT holds of the same network, engine, size
    and files is not computed again. Objects may enter late; each counts from the next frame on.
    """
    roots = {"davis": davis, "youtube-vos": youtube_vos, "folder": folder, "clips": clips}
    given = [(name, path) for name, path in roots.items() if path]
    if len(given) != 1:
        raise typer.BadParameter(
            "give one of --davis, --youtube-vos, --folder and --clips", param_hint="--davis"
        )
    kind, root = given[0]
    frame_size = parse_frame_size(size, example="854x480")
    target = frame_size and frame_size.shape
    if youtube_vos and target:
        raise typer.BadParameter(
            "YouTube-VOS's server takes masks of the videos' own size", param_hint="--size"
        )
    if split and kind not in ("davis", "youtube-vos"):
        raise typer.BadParameter(f"--{kind} has no splits", param_hint="--split")

    from s2svos.commands.terminal import counting_progress
    from s2svos.evaluation.report import print_table
    from s2svos.evaluation.run import evaluate as run
    from s2svos.evaluation.videos import open_videos
    from s2svos.exporting import open_model
    from s2svos.shipped import bundle_path

    videos = open_videos(kind, root, year=int(year), split=split)
    with open_model(bundle_path(model)) as opened:
        try:
            with counting_progress("frames") as update:
                result = run(
                    opened.bundle,
                    videos,
                    out,
                    model=(opened.path, opened.sha256),
                    engine=engine,
                    precision=precision.value,
                    window=window.value,
                    size=target,
                    jobs=jobs,
                    threads=threads,
                    overwrite=overwrite,
                    log=typer.echo,
                    report=lambda done, total: update(completed=done, total=total),
                )
        except KeyboardInterrupt:
            typer.echo(f"What is finished is in {out}; the same command goes on.", err=True)
            raise
    scored_at = f"scored at {size or 'native size'}"
    typer.echo(f"{videos.name}, {result.engine}, {scored_at}")
    print_table(result.scores)
    if not result.plotted:
        typer.echo(
            "j_over_time.png needs matplotlib, which is not installed; install it with pip install "
            '"s2svos[train]" and run again.',
            err=True,
        )
    typer.echo(f"Masks, tables and pictures are in {out}.")
