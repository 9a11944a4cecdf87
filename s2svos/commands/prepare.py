"""``s2svos prepare``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2svos.commands.options import LARGEST_SIDE, MOST_PROCESSES, parse_frame_size

if TYPE_CHECKING:
    from s2svos.data.resized_copy import Size


def prepare(
    sources: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="SOURCE...",
            show_default=False,
            help="Data sets: their folders (DAVIS, YouTube-VOS, stills, or frames and masks), or, "
            "where the layout cannot be told, davis=DIR, youtube-vos=DIR, stills=DIR, folder=DIR.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder for the copy; several become folders in it."),
    ] = None,
    size: Annotated[
        str, typer.Option(help="Shorter side in pixels, as in 256, or WIDTHxHEIGHT.")
    ] = "256",
    workers: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_PROCESSES, help="Processes; default: one a core."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that cannot be read.")
    ] = False,
    remove: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Take away a folder that prepare made, and nothing else."),
    ] = None,
) -> None:
    """Make the resized copy of data sets that training reads quickly; run again to go on.

    Frames become JPEGs of quality 95, masks palette PNGs, in the same folders as in the original,
    which is only read.
    """
    if remove is not None:
        if sources or out:
            raise typer.BadParameter("takes no SOURCE and no --out", param_hint="--remove")
        _remove(remove)
        return
    if not sources:
        raise typer.BadParameter("name at least one data set", param_hint="SOURCE")
    if out is None:
        raise typer.BadParameter("name the folder for the copy", param_hint="--out")
    copy_size = _parse_size(size)

    from s2svos.commands.terminal import counting_progress
    from s2svos.data.prepare import prepare as run
    from s2svos.data.resized_copy import parse_source

    configs = [parse_source(source) for source in sources]
    try:
        with counting_progress("files") as update:
            summary = run(
                configs,
                out,
                size=copy_size,
                workers=workers,
                strict=strict,
                report=lambda done, total: update(completed=done, total=total),
            )
    except KeyboardInterrupt:
        typer.echo(f"What was done is in {out}; run the same command again to go on.", err=True)
        raise
    if skipped := summary.skipped.summary():
        typer.echo(f"{skipped}; they were left out.", err=True)
    sets = " ".join(f"--data {config.kind.value}={folder}" for config, folder in summary.folders)
    typer.echo(f"{summary.files} files, {summary.made} of them new; next: s2svos train {sets}")


def _remove(folder: Path) -> None:
    from s2svos.data.prepare import PreparedFolder

    removed = PreparedFolder(folder).remove()
    rest = f"; {folder} holds other files, which stay" if folder.exists() else ""
    typer.echo(f"{removed} files removed{rest}.")


def _parse_size(text: str) -> Size:
    from s2svos.data.resized_copy import Size

    if re.fullmatch("[1-9][0-9]{0,4}", text) and int(text) <= LARGEST_SIDE:
        return Size(int(text))
    if "=" not in text and "x" not in text:
        raise typer.BadParameter(
            f"{text!r} is neither a shorter side, as in 256, nor WIDTHxHEIGHT, as in 448x256",
            param_hint="--size",
        )
    parsed = parse_frame_size(text, example="448x256")
    assert parsed is not None
    return Size(*parsed.shape)
