"""Progress of training on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from s2svos.training.trainer import Progress as Step

LOG_EVERY = 100  # steps, where there is no terminal


@contextmanager
def training_progress(steps: int) -> Iterator[Callable[[Step], None]]:
    """A bar with loss, J, rate and time left on a terminal, a line now and then elsewhere."""
    bar = Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        disable=not sys.stderr.isatty(),
    )
    mean: dict[str, float] = {}

    def report(step: Step) -> None:
        now = {"loss": step.loss, "J": step.jaccard, "s/step": step.seconds}
        for name, value in now.items():
            mean[name] = 0.95 * mean.get(name, value) + 0.05 * value
        figures = "  ".join(f"{name} {value:.3f}" for name, value in mean.items())
        bar.update(task, completed=step.step, figures=figures)
        if bar.disable and (step.step % LOG_EVERY == 0 or step.step == step.steps):
            typer.echo(f"step {step.step}/{step.steps}  {figures}", err=True)

    with bar:
        task = bar.add_task("", total=steps, figures="")
        yield report
