"""Processes that a test starts, waits for and ends at a moment that it controls."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TIMEOUT = 600
"""Seconds that a test waits at most; only one that fails, or a very busy machine, needs them."""


def wait_until(happened: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    """Wait until something has happened, while a process is running."""
    deadline = time.monotonic() + TIMEOUT
    while not happened():
        assert process is None or process.poll() is None, process and process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def wait_for_end(pids: Iterable[int]) -> None:
    """Wait until processes have ended; zombies, which only wait to be noticed, have."""
    for pid in pids:
        wait_until(lambda pid=pid: not _runs(pid))  # type: ignore[misc]


@contextmanager
def blocking(path: Path) -> Iterator[None]:
    """Make whoever reads a file wait, until this is left; the file is what it was then."""
    data, stat = path.read_bytes(), path.stat()
    path.unlink()
    os.mkfifo(path)
    try:
        yield
    finally:
        path.unlink()
        path.write_bytes(data)
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
