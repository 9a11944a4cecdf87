"""What commands show on the terminal: progress of long work, and tables."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

if TYPE_CHECKING:
    from s2svos.training.run_log import Step


LOG_EVERY = 100  # steps, where there is no terminal


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f}/s")


@contextmanager
def counting_progress(
    unit: str, *, total: int | None = None, done: int = 0
) -> Iterator[Callable[..., None]]:
    """Show a bar with a count, its rate and the time left on a terminal, nothing elsewhere.

    Args:
        unit: what is counted, in the plural.
        total: how many there are; None where that is told later.
        done: how many are over.

    Yields:
        rich's ``Progress.update`` for the bar: takes ``advance``, ``completed``, ``total``.
    """
    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        _Rate(),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
    )
    with bar:
        task = bar.add_task("", total=total, completed=done)
        yield partial(bar.update, task)


@contextmanager
def training_progress(
    steps: int, done: int = 0, *, shown: bool = True
) -> Iterator[Callable[[Step], None]]:
    """Show a bar with loss, J, rate and time left on a terminal, a line now and then elsewhere.

    Args:
        steps: of the whole training.
        done: how many of them are over.
        shown: False shows nothing.
    """
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        disable=not (shown and sys.stderr.isatty()),
    )
    mean: dict[str, float] = {}
    scored = ""

    def report(step: Step) -> None:
        nonlocal scored
        now = {
            "loss": step.loss,
            "J": step.jaccard,
            "clips/s": step.clips / step.seconds,
            "waiting": step.waiting / step.seconds,
        }
        for name, value in now.items():
            mean[name] = 0.95 * mean.get(name, value) + 0.05 * value
        if step.validation:
            j, f = step.validation
            scored = f"  val J {j:.3f} F {f:.3f}"
        figures = (
            f"loss {mean['loss']:.3f}  J {mean['J']:.3f}  {mean['clips/s']:.2f} clips/s  "
            f"waiting {mean['waiting']:.0%}{scored}"
        )
        bar.update(task, completed=step.step, figures=figures)
        told = step.step % LOG_EVERY == 0 or step.step == step.steps or step.validation
        if shown and bar.disable and told:
            typer.echo(f"step {step.step}/{step.steps}  {figures}", err=True)

    with bar:
        task = bar.add_task("", total=steps, completed=done, figures="")
        yield report


Row = Sequence[str]


def print_table(
    rows: Sequence[Row], *, title: str = "", styles: dict[str, str] | None = None
) -> None:
    """Print rows of as many texts each; the last column may be long.

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
