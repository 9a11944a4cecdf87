"""Processes of a pool, which must not outlive what they work for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from s2svos.workers import worker_pool
from s2svos_engines.errors import UserError

def sleep(place):
    (place / str(os.getpid())).touch()
    time.sleep(999)

def ready(place):
    assert place.is_dir()

if __name__ == "__main__":
    place = Path(sys.argv[1])
    try:
        with worker_pool(2, ready, place, broken="run again") as pool:
            for task in [pool.submit(sleep, place) for _ in range(4)]:
                task.result()
    except KeyboardInterrupt:
        print("stopped")
    except UserError as error:
        print(error)
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Gets a file from each process that works, which has its number for a name."""
    (tmp_path / "pids").mkdir()
    return tmp_path / "pids"


@pytest.fixture
def parent(tmp_path: Path, place: Path) -> Iterator[subprocess.Popen[str]]:
    """Has a pool of two, whose work takes longer than any test."""
    (tmp_path / "script.py").write_text(SCRIPT)
    with subprocess.Popen(
        [sys.executable, tmp_path / "script.py", place],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 600
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def all_gone(group: int) -> bool:
    """Whether no process of a group is left but those that only wait to be noticed."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(FileNotFoundError, ProcessLookupError):
            state, _, its_group = status.read_text().rsplit(")", 1)[1].split()[:3]
            if int(its_group) == group and state != "Z":
                return False
    return True


def test_ctrl_c_ends_them_in_the_midst_of_their_work(
    parent: subprocess.Popen[str], place: Path
) -> None:
    until(lambda: len(list(place.iterdir())) == 2)
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.communicate(timeout=600) == ("stopped\n", "")
    assert len(list(place.iterdir())) == 2
    until(lambda: all_gone(parent.pid))


def test_ctrl_c_while_they_start_makes_no_noise(parent: subprocess.Popen[str]) -> None:
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    until(lambda: len(children.read_text().split()) >= 2)  # one of them tracks resources
    os.killpg(parent.pid, signal.SIGINT)
    assert parent.communicate(timeout=600) == ("stopped\n", "")
    until(lambda: all_gone(parent.pid))


def test_they_end_with_a_parent_that_is_killed(parent: subprocess.Popen[str], place: Path) -> None:
    until(lambda: len(list(place.iterdir())) == 2)
    parent.kill()
    until(lambda: all_gone(parent.pid))


def test_one_that_is_killed_ends_the_work(parent: subprocess.Popen[str], place: Path) -> None:
    until(lambda: len(list(place.iterdir())) == 2)
    os.kill(int(next(place.iterdir()).name), signal.SIGKILL)
    assert parent.communicate(timeout=600) == ("run again\n", "")
    until(lambda: all_gone(parent.pid))
