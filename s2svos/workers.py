"""A pool of processes that never outlive the one that started them."""

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

from s2svos.interrupt import STOP_SIGNALS, Interrupt, ignore_stop_signals
from s2svos_engines.errors import UserError

T = TypeVar("T")

# Spawned: the threads of engines and of a progress display do not survive a fork.
CONTEXT = multiprocessing.get_context("spawn")


class PoolBroken(UserError):
    """A process of a pool was ended from outside."""


@contextmanager
def worker_pool(
    count: int, initialize: Callable[..., None], *arguments: Any, broken: str
) -> Iterator[ProcessPoolExecutor]:
    """Give a pool of processes that end at once when this is left, even in the midst of a task.

    They therefore have to write files atomically.

    Args:
        count: of the processes.
        initialize: called in each before its first task.
        arguments: of ``initialize``.
        broken: the message if a process is ended from outside.

    Raises:
        PoolBroken: a process was ended from outside.
    """
    alive, alive_here = CONTEXT.Pipe(duplex=False)
    with blocked_signals():  # for the process of multiprocessing that keeps account of memory
        pool = _Pool(count, CONTEXT, _start, (alive, initialize, *arguments))
    try:
        yield pool
    except BrokenProcessPool as error:
        raise PoolBroken(broken) from error
    finally:
        alive_here.close()
        pool.shutdown(cancel_futures=True)


class _Pool(ProcessPoolExecutor):
    """A pool whose processes ignore a Ctrl-C that reaches all: their parent ends them."""

    def submit(self, task: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        # The parent waits for all that it knows of, and so it has to know those that start.
        with blocked_signals(), Interrupt() as interrupt:
            future = super().submit(task, *args, **kwargs)
        if interrupt.wanted:
            raise KeyboardInterrupt
        return future


@contextmanager
def blocked_signals() -> Iterator[None]:
    """Block what asks to stop, also in processes that are started meanwhile, if the system can."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _start(alive: Connection, initialize: Callable[..., None], *arguments: Any) -> None:
    """Initialize a process.

    Args:
        alive: ends as soon as the parent wants no more, or is killed: a process that only waited
            for work would wait for ever.
        initialize, arguments: called then.
    """

    def end() -> None:
        alive.poll(None)
        os._exit(1)

    ignore_stop_signals()  # where they could not be blocked
    Thread(target=end, daemon=True).start()
    initialize(*arguments)
