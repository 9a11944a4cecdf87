"""How a video that is being followed may come to a bad end."""

from __future__ import annotations

import traceback
from pathlib import Path

from s2svos_engines.errors import UserError


class EndedEarly(UserError):
    """An input stopped before its end; what was done up to there is kept."""

    exit_code = 1


class OutputClosed(UserError):
    """Whoever took the results has gone."""

    exit_code = 1


class StageFailed(UserError):
    """A thread of the run died of an error that nobody foresaw; that error is the cause.

    Args:
        doing: what the thread did, as ``Reading clip.mp4``.
        error: what it died of.
    """

    exit_code = 1

    def __init__(self, doing: str, error: BaseException) -> None:
        place = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error}".rstrip(": ")
        super().__init__(
            f"{doing} failed with {what} ({Path(place.filename).name}:{place.lineno})."
        )
        self.__cause__ = error


def stalled(name: str, seconds: float) -> EndedEarly:
    """What to say of an input that gives nothing for too long."""
    return EndedEarly(
        f"{name} has given no frame for {seconds:g} s; check that it still sends, or allow it "
        "longer with --timeout."
    )
