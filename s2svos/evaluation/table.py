"""Results as a table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from s2svos.evaluation.scores import Overall, Statistics, VideoScore, milliseconds

FIGURES = ("mean", "recall", "decay")


def print_table(scores: Sequence[VideoScore]) -> None:
    """Prints a row a video and the means over the objects; a line where nothing was scored."""
    console = Console()
    overall = Overall.of(scores)
    if not overall.objects:
        time = _figure(overall.milliseconds, 1)
        console.print(
            f"Videos followed: {overall.videos}, {time} ms a step; there are no true masks beyond "
            "those that objects start from, so nothing is scored.",
            highlight=False,
        )
        return
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("\nvideo", overflow="fold")
    for column in ("\nobjects", *(f"{one}\n{figure}" for one in "JF" for figure in FIGURES)):
        table.add_column(column, justify="right")
    table.add_column("ms a\nstep", justify="right")
    for score in scores:
        objects = sum(bool(one.frames) for one in score.objects)
        time = _figure(milliseconds([score]), 1)
        table.add_row(score.name, str(objects), *_figures(score.j, score.f), time)
    figures = _figures(overall.j, overall.f)
    time = _figure(overall.milliseconds, 1)
    table.add_row("all", str(overall.objects), *figures, time, style="bold")
    console.print(table)
    console.print(
        f"J&F {overall.j_and_f:.3f}, J {overall.j.mean:.3f}, F {overall.f.mean:.3f}",
        highlight=False,
    )


def _figures(*measures: Statistics) -> list[str]:
    return [_figure(figure, 3) for one in measures for figure in (one.mean, one.recall, one.decay)]


def _figure(figure: float, digits: int) -> str:
    return "-" if math.isnan(figure) else f"{figure:.{digits}f}"
