"""Progress of a run, as it is shown."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from s2svos.inference.summary import InferProgress

_LINE_EVERY = 10.0  # seconds


@contextmanager
def shown_progress(expected: int | None) -> Iterator[Callable[[InferProgress], None]]:
    """Show a bar with rate and time left, on a terminal or in a notebook; elsewhere lines.

    Args:
        expected: frames of the video, or None where it does not say.

    Yields:
        a function to be called after every frame.
    """
    if not sys.stderr.isatty() and "ipykernel" not in sys.modules:
        yield _Lines()  # without rich.progress, which takes some time to import
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    bar = Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("frames  {task.fields[figures]}"),
        console=Console(stderr=True),
    )

    def on_frame(now: InferProgress) -> None:
        left = "" if now.seconds_left is None else f"  {_clock(now.seconds_left)} left"
        dropped = f"  {now.dropped} late ones dropped" if now.dropped else ""
        bar.update(frames, completed=now.frames, figures=f"{now.rate:.1f}/s{left}{dropped}")

    with bar:
        frames = bar.add_task("frames", total=expected, figures="")
        yield on_frame


class _Lines:
    """Writes a line of progress every ten seconds: for logs, in which a short run leaves none."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_EVERY

    def __call__(self, now: InferProgress) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _LINE_EVERY
        of = "" if now.expected is None else f" of {now.expected}"
        left = "" if now.seconds_left is None else f", {_clock(now.seconds_left)} left"
        dropped = f", {now.dropped} late ones dropped" if now.dropped else ""
        print(
            f"{now.frames}{of} frames, {now.rate:.1f}/s{left}{dropped}", file=sys.stderr, flush=True
        )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
