"""Processes that share out work and never outlive the one that started them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import Connection
from threading import Thread
from typing import Any, TypeVar

from s2svos.interrupt import Interrupt
from s2svos_engines.errors import UserError

T = TypeVar("T")


# Spawned: the threads of engines and of a progress display do not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")


class _Pool(ProcessPoolExecutor):
    """Its processes never see the Ctrl-C that reaches all: their parent says when to stop."""

    def submit(self, task: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which they inherit
        try:
            # The parent waits for all that it knows of, and so it has to know those that start.
            with Interrupt() as interrupt:
                future = super().submit(task, *args, **kwargs)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if interrupt.wanted:
            raise KeyboardInterrupt
        return future


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
    pool = _Pool(count, CONTEXT, _start, (alive, ready, *arguments))
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
