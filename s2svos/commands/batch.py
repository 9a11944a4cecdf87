"""The command ``s2svos batch``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2svos.commands.options import (
    MOST_PROCESSES,
    MOST_THREADS,
    BundleOption,
    EngineOption,
    GraphPrecision,
    NoOverlayOption,
    PrecisionOption,
    SaveOption,
    SnapOption,
    WindowChoice,
    WindowOption,
)

if TYPE_CHECKING:
    from s2svos.batch.work import Outcome


def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            help="A CSV or JSON lines with video, mask and, where wanted, out, start and end; or a "
            "folder with masks beside their videos, NAME.mp4 and NAME.png."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", "-o", help="Folder, or address (s3://...), for a folder of results each."
        ),
    ] = "batch",
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MOST_PROCESSES,
            help="Videos at a time; default: one for two cores, or what the cluster has room for.",
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_THREADS, help="Of a step; default: the cores shared out, 2 on Ray."
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Only every Nth job, from the Ith on, 0/N to N-1/N: array jobs."
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(metavar="ray[://HOST:PORT]", help="On a Ray cluster, here or elsewhere."),
    ] = None,
    bundle: BundleOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = GraphPrecision.FP32,
    window: WindowOption = WindowChoice.AUTO,
    snap: SnapOption = False,
    no_overlay: NoOverlayOption = False,
    save: SaveOption = None,
) -> None:
    """Follow many videos, each from the mask of its first frame.

    Run again after an interruption, it goes on; a video that fails stops no other.
    """
    number, count = _shard(shard)
    if on is not None and on != "ray" and not re.fullmatch(r"(ray://)?[\w.-]+:[0-9]{1,5}", on):
        raise typer.BadParameter("say ray, ray://HOST:PORT or HOST:PORT", param_hint="--on")
    from s2svos.batch.jobs import read_jobs
    from s2svos.batch.jobs import shard as part
    from s2svos.batch.local import run_here
    from s2svos.batch.ray_cluster import run_on_ray
    from s2svos.batch.report import write_table
    from s2svos.batch.work import Settings
    from s2svos.commands.terminal import counting_progress
    from s2svos.saving.formats import check_formats
    from s2svos.shipped import bundle_path
    from s2svos.video.address import is_address
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.cpu import cpu_count

    check_formats(save or ())
    listed = part(read_jobs(jobs), number, count)
    path = bundle_path(bundle)
    Bundle.open(path)  # says now what is wrong with it
    cores = cpu_count()
    at_a_time = processes or max(1, min(len(listed), cores // 2))
    settings = Settings(
        out=out if is_address(out) else str(Path(out).resolve()),
        bundle=path,
        engine=engine,
        precision=precision.value,
        window=window.value,
        threads=threads or max(1, cores // at_a_time),
        overlay=not no_overlay,
        save=tuple(save or ()),
        snap=snap,
    )
    outcomes: list[Outcome] = []
    suffix = f"-{number}-of-{count}" if count > 1 else ""
    table = (
        Path(f"{jobs.stem}{suffix}.batch.csv")
        if is_address(out)
        else Path(out, f"batch{suffix}.csv")
    )
    ended = (
        run_on_ray(listed, settings, address=on, processes=processes, threads=threads or 2)
        if on
        else run_here(listed, settings, at_a_time)
    )
    try:
        with counting_progress("videos", total=len(listed)) as progress:
            for outcome in ended:
                outcomes.append(outcome)
                progress(completed=len(outcomes))
                _tell(outcome)
    except KeyboardInterrupt:
        typer.echo(f"What is finished is in {out}; the same command goes on.", err=True)
        raise
    finally:
        ended.close()
        outcomes.sort(key=lambda one: one.name)
        write_table(table, outcomes)
    well = sum(one.well for one in outcomes)
    typer.echo(f"{well} of {len(listed)} videos are whole in {out}; {table} says more.")
    if well < len(listed):
        raise typer.Exit(1)


def _shard(text: str | None) -> tuple[int, int]:
    found = re.fullmatch(r"([0-9]{1,6})/([1-9][0-9]{0,5})", text or "0/1")
    if not found or int(found[1]) >= int(found[2]):
        raise typer.BadParameter(f"{text!r} is not I/N, as in 0/4 to 3/4", param_hint="--shard")
    return int(found[1]), int(found[2])


def _tell(outcome: Outcome) -> None:
    if outcome.error:
        typer.secho(f"{outcome.name}: {outcome.state}. {outcome.error}", fg="yellow", err=True)
    elif outcome.state == "done":
        rate = outcome.frames / max(outcome.seconds, 1e-9)
        typer.echo(f"{outcome.name}: {outcome.frames} frames, {rate:.1f} frames/s.", err=True)
