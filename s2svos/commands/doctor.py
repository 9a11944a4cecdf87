"""``s2svos doctor``."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from s2svos.commands.options import BundleOption

STYLES = {"ok": "green", "info": "cyan", "problem": "bold red"}


def doctor(
    bundle: BundleOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Examine this installation: packages, processor, GPU, and every engine on ten frames.

    Where there is a GPU, TensorRT is proved too: its plans are built and follow 300 frames. Exit
    code 0 if all is well, 1 if there is a problem.
    """
    import json

    from s2svos import __version__
    from s2svos.commands.terminal import print_table
    from s2svos.doctor.examine import examine
    from s2svos.doctor.finding import State
    from s2svos.shipped import bundle_path
    from s2svos.standard_streams import need_standard_output

    need_standard_output()
    with _status() as log:
        findings = list(examine(bundle_path(bundle), log=log))
    problems = sum(finding.state is State.PROBLEM for finding in findings)
    if as_json:
        report = {
            "s2svos": __version__,
            "problems": problems,
            "findings": [finding.to_json() for finding in findings],
        }
        typer.echo(json.dumps(report, indent=1))
    else:
        rows = [
            (finding.state, finding.topic, f"{finding.text}\n-> {finding.remedy}")
            if finding.remedy
            else (finding.state, finding.topic, finding.text)
            for finding in findings
        ]
        print_table(rows, styles=STYLES)
        typer.echo(f"\n{problems or 'No'} problem{'' if problems == 1 else 's'}.")
    if problems:
        raise typer.Exit(1)


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Show on a terminal what is being done, nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda text: None
        return
    from rich.console import Console

    with Console(stderr=True).status("looking") as status:
        yield status.update
