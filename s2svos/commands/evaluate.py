"""``s2svos evaluate``."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2svos.commands.options import EngineChoice, GraphPrecision, parse_frame_size

if TYPE_CHECKING:
    from s2svos.data.layouts import VideoFiles
    from s2svos.evaluation.scores import VideoScore


class Year(StrEnum):
    """Which of DAVIS's tasks."""

    Y2016 = "2016"
    Y2017 = "2017"


@dataclass(frozen=True)
class _Data:
    """Videos to evaluate: what they are called, and whether objects may enter late unlisted."""

    name: str
    videos: list[VideoFiles]
    late: bool


def evaluate(
    model: Annotated[
        Path | None,
        typer.Argument(help="Bundle NAME.s2s or checkpoint NAME.pt; default: the one that ships."),
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
    precision: Annotated[
        GraphPrecision, typer.Option(help="Of the graphs, one that the bundle has.")
    ] = GraphPrecision.FP32,
    jobs: Annotated[
        int,
        typer.Option(
            min=1,
            help="Videos at a time, which share the cores: sooner done, but the time of a step is "
            "then not that of a video alone.",
        ),
    ] = 1,
    threads: Annotated[
        int | None,
        typer.Option(min=1, help="Processor threads of a step; default: the cores / JOBS."),
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
    chosen = {"davis": davis, "youtube-vos": youtube_vos, "folder": folder, "clips": clips}
    given = [name for name, path in chosen.items() if path]
    if len(given) != 1:
        raise typer.BadParameter(
            "give one of --davis, --youtube-vos, --folder and --clips", param_hint="--davis"
        )
    frame_size = parse_frame_size(size, example="854x480")
    wanted = frame_size and frame_size.shape
    if youtube_vos and wanted:
        raise typer.BadParameter(
            "YouTube-VOS's server takes masks of the videos' own size", param_hint="--size"
        )
    if split and given[0] not in ("davis", "youtube-vos"):
        raise typer.BadParameter(f"--{given[0]} has no splits", param_hint="--split")

    import s2svos
    from s2svos.commands.terminal import counting_progress
    from s2svos.environment import environment
    from s2svos.evaluation.report import print_table, write_csv, write_json, write_submission
    from s2svos.evaluation.run import Job, evaluate_videos
    from s2svos.evaluation.store import Store
    from s2svos.evaluation.videos import frame_count
    from s2svos.exporting import open_model
    from s2svos_engines.tracker import Tracker

    data = _data(given[0], chosen[given[0]] or Path(), year, split)
    share = threads or max(1, len(os.sched_getaffinity(0)) // jobs)
    with open_model(model or s2svos.default_bundle()) as opened:
        tracker = Tracker.load(
            opened.bundle.path, engine=engine, precision=precision.value, threads=share
        )
        store = Store(
            out,
            {
                "network": opened.sha256,
                "engine": tracker.engine_name,
                "precision": precision.value,
                "data": data.name,
                "size": list(wanted) if wanted else None,
                "version": s2svos.__version__,
            },
        )
        store.claim(data.videos, overwrite=overwrite)
        done = [video for video in data.videos if store.load(video)]
        if done:
            typer.echo(f"{len(done)} of {len(data.videos)} videos are in {out} already.")
        job = Job(
            bundle=opened.bundle.path,
            engine=tracker.engine_name,
            precision=precision.value,
            threads=share,
            size=wanted,
            late=data.late,
            store=store,
        )
        try:
            expected, before = (sum(map(frame_count, some)) for some in (data.videos, done))
            with counting_progress("frames", total=expected, done=before) as update:
                scores = evaluate_videos(
                    job,
                    data.videos,
                    tracker,
                    jobs=jobs,
                    report=lambda frames: update(advance=frames),
                )
        except KeyboardInterrupt:
            typer.echo(f"What is finished is in {out}; the same command goes on.", err=True)
            raise
        facts = {
            **store.settings,
            "model": str(opened.path),
            "bundle_sha256": opened.bundle.sha256,
            "jobs": jobs,
            "threads": share,
            "environment": environment(),
        }
    write_json(out / "results.json", scores, facts)
    write_csv(out / "results.csv", scores)
    if youtube_vos:
        write_submission(out / "submission.zip", store.masks, [score.name for score in scores])
    how = f"{tracker.engine_name} {precision.value}"
    typer.echo(f"{data.name}, {how}, scored at {size or 'native size'}")
    print_table(scores)
    _draw(out, scores, data.videos)
    typer.echo(f"Masks, tables and pictures are in {out}.")


def _data(kind: str, path: Path, year: Year, split: str | None) -> _Data:
    from s2svos.data import layouts
    from s2svos.evaluation import videos

    if kind == "davis":
        split = split or "val"
        return _Data(f"DAVIS {year} {split}", layouts.davis(path, int(year), split), late=False)
    if kind == "youtube-vos":
        split = split or "valid"
        return _Data(f"YouTube-VOS {split}", layouts.youtube_vos(path, split), late=False)
    found = layouts.folder(path) if kind == "folder" else videos.clips(path)
    return _Data(f"{kind} {path.resolve().name}", found, late=True)


def _draw(out: Path, scores: Sequence[VideoScore], videos: Sequence[VideoFiles]) -> None:
    if not any(score.scored for score in scores):
        return
    from s2svos.evaluation.pictures import draw_j_over_time, draw_worst

    draw_worst(out / "worst.png", scores, {one.name: one for one in videos}, out / "masks")
    if importlib.util.find_spec("matplotlib"):
        draw_j_over_time(out / "j_over_time.png", scores)
    else:
        typer.echo(
            "j_over_time.png needs matplotlib, which is not installed; install it with pip install "
            '"s2svos[train]" and run again.',
            err=True,
        )
