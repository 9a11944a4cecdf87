"""What every benchmark script shares: where it ran, results as JSON lines, tables, mistakes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2svos.environment import environment
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.tracker import Tracker


def describe(tracker: Tracker) -> dict[str, Any]:
    """Engine and weights of a tracker."""
    return {"engine": tracker.engine_name, "bundle": tracker.bundle.sha256}


def append_json(path: Path, benchmark: str, results: dict[str, Any]) -> None:
    """Append one line to ``path``: the benchmark's name, its results, the environment.

    Raises:
        UserError: the file cannot be written.
    """
    line = json.dumps({"benchmark": benchmark, **results, "environment": environment()})
    try:
        with path.open("a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})", "choose another") from error


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text on the terminal; the first column to the left, the rest to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(f"\n{title}", highlight=False, markup=False)
    console.print(table)


def run_script(command: Callable[..., None]) -> None:
    """Run ``command`` with the command line's arguments; mistakes end in one sentence."""
    import typer

    try:
        typer.run(command)
    except UserError as error:
        typer.secho(f"{Path(sys.argv[0]).name}: {error}", fg=typer.colors.RED, err=True)
        sys.exit(error.exit_code)
