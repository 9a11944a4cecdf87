"""Progress of long work on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
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
    from s2svos.training.history import Step

LOG_EVERY = 100  # steps, where there is no terminal


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed or 0:.1f}/s")


@contextmanager
def counting_progress(
    unit: str, *, total: int | None = None, done: int = 0
) -> Iterator[Callable[..., None]]:
    """A bar with a count, its rate and the time left on a terminal, nothing elsewhere.

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
    """A bar with loss, J, rate and time left on a terminal, a line now and then elsewhere.

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
    judged = ""

    def report(step: Step) -> None:
        nonlocal judged
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
            judged = f"  val J {j:.3f} F {f:.3f}"
        figures = (
            f"loss {mean['loss']:.3f}  J {mean['J']:.3f}  {mean['clips/s']:.2f} clips/s  "
            f"waiting {mean['waiting']:.0%}{judged}"
        )
        bar.update(task, completed=step.step, figures=figures)
        told = step.step % LOG_EVERY == 0 or step.step == step.steps or step.validation
        if shown and bar.disable and told:
            typer.echo(f"step {step.step}/{step.steps}  {figures}", err=True)

    with bar:
        task = bar.add_task("", total=steps, completed=done, figures="")
        yield report
