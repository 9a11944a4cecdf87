"""Tables: fitted to a terminal, whole lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

Row = Sequence[str]


def print_table(
    rows: Sequence[Row], *, title: str = "", styles: dict[str, str] | None = None
) -> None:
    """Prints rows of as many texts each; the last column may be long.

    Args:
        rows: texts; nothing is printed if there are none.
        title: a line above.
        styles: rich's style for a text of the first column.
    """
    if not rows:
        return
    if sys.stdout.isatty():
        _print_rich(rows, title, styles or {})
        return
    if title:
        typer.echo(f"\n{title}")
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]) - 1)]
    for row in rows:
        cells = [text.ljust(width) for text, width in zip(row, widths, strict=False)]
        # The lines of a long text go on below its column.
        below = "\n" + " " * (sum(widths) + 2 * len(widths))
        typer.echo("  ".join([*cells, row[-1].replace("\n", below)]).rstrip())


def _print_rich(rows: Sequence[Row], title: str, styles: dict[str, str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False)
    for row in rows:
        table.add_row(Text(row[0], styles.get(row[0], "")), *map(Text, row[1:]))
    console = Console()
    if title:
        console.print(f"\n{title}", style="bold", markup=False)
    console.print(table)
