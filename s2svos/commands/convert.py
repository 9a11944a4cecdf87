"""The command ``s2svos convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2svos.commands.options import FORMAT_NAMES


def _list(wanted: bool) -> None:
    if wanted:
        from s2svos.saving.formats import FORMATS

        for name, one in FORMATS.items():
            typer.echo(f"{name:<18}{one.text}")
        raise typer.Exit


def convert(
    result: Annotated[
        Path, typer.Argument(help="Folder that s2svos infer wrote, or a project of s2svos studio.")
    ],
    to: Annotated[
        list[str], typer.Option(metavar="FORMAT", help=f"Any of {FORMAT_NAMES}; one or more times.")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Existing folder for the files; default: RESULT."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Where the video is now, if it was moved.")
    ] = None,
    refine: Annotated[
        bool, typer.Option("--refine", help="Have edges follow those of the picture, for looks.")
    ] = False,
    formats: Annotated[
        bool,
        typer.Option(
            "--formats", callback=_list, is_eager=True, help="Say what the formats are, and exit."
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files of these names.")
    ] = False,
) -> None:
    """Save masks that are there for editors, annotation programs and tables."""
    from s2svos.commands.terminal import counting_progress
    from s2svos.saving.convert import convert as run
    from s2svos.saving.convert import read_result
    from s2svos.saving.formats import check_formats
    from s2svos_engines.errors import UserError

    check_formats(to)
    place = out or result
    if not place.is_dir():
        raise UserError(f"{place} is no folder", "create it, or choose another --out")
    found = read_result(result)
    with counting_progress("frames", total=len(found.masks)) as progress:
        files = run(
            found,
            to,
            place,
            video=video,
            refine=refine,
            overwrite=overwrite,
            report=lambda done, total: progress(completed=done),
        )
    typer.echo("\n".join(str(path) for path in files))
