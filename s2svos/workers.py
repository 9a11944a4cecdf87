"""Processes that share out work and never outlive the one that started them."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext, SpawnProcess
from threading import Thread
from typing import Any

from s2svos_engines.errors import UserError


class _Process(SpawnProcess):
    """Never sees the Ctrl-C that reaches all processes: its parent says when to stop."""

    def start(self) -> None:
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # the child inherits it
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Context(SpawnContext):
    # Spawned: the threads of engines and of a progress display do not survive a fork.
    Process = _Process


CONTEXT = _Context()


@contextmanager
def worker_pool(
    count: int, ready: Callable[..., None], *arguments: Any, broken: str
) -> Iterator[ProcessPoolExecutor]:
    """A pool of processes that end at once when this is left, whatever they are at.

    They therefore have to write files that are whole or not there.

    Args:
        count: of the processes.
        ready: is called in each before its first task.
        arguments: of ``ready``.
        broken: what to say if a process is ended from outside.

    Raises:
        UserError: a process was ended from outside.
    """
    alive, alive_here = CONTEXT.Pipe(duplex=False)
    pool = ProcessPoolExecutor(count, CONTEXT, _start, (alive, ready, *arguments))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise UserError(broken) from error
    finally:
        alive_here.close()
        pool.shutdown(cancel_futures=True)


def _start(alive: Connection, ready: Callable[..., None], *arguments: Any) -> None:
    """Readies a process.

    Args:
        alive: has its end as soon as the parent wants no more, or is killed: a process that only
            waited for work would wait for ever.
        ready, arguments: what else to do.
    """

    def end() -> None:
        alive.poll(None)
        os._exit(1)

    Thread(target=end, daemon=True).start()
    ready(*arguments)
