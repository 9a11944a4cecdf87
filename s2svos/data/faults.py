"""Files of a data set that cannot be used: named, and passed over or refused."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from s2svos_engines.errors import UserError

_log = logging.getLogger("s2svos.data")


class BadFile(UserError):
    """A file or folder of a data set that is missing, damaged or contradicts the others.

    Args:
        path: what is wrong.
        problem: what is wrong with it and what to do, going on from the path.

    Attributes:
        path: what is wrong.
    """

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path} {problem}")
        self.path = path
        self.problem = problem

    def __reduce__(self) -> tuple[type[BadFile], tuple[Path, str]]:
        # An exception is pickled by its message alone; this one comes back from worker processes.
        return type(self), (self.path, self.problem)


class Faults:
    """What was passed over; each path is logged and counted once.

    Args:
        strict: the first one is raised instead.

    Attributes:
        found: what was wrong, by path.
    """

    def __init__(self, *, strict: bool = True) -> None:
        self.strict = strict
        self.found: dict[Path, BadFile] = {}

    def note(self, *faults: BadFile) -> None:
        """Takes faults down.

        Raises:
            BadFile: the first of them, where the set is read strictly.
        """
        for fault in faults:
            if self.strict:
                raise fault
            if fault.path not in self.found:
                self.found[fault.path] = fault
                _log.warning("skipped: %s", fault)


def summary(faults: Iterable[BadFile]) -> str:
    """One line for the end of a run: how many, and the first of them; empty if there is none."""
    listed = list(faults)
    if not listed:
        return ""
    files = "1 file was" if len(listed) == 1 else f"{len(listed)} files were"
    return f"{files} skipped, first {listed[0].path}"
