"""Progress of training on the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from s2svos.training.history import Step

LOG_EVERY = 100  # steps, where there is no terminal


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
