"""Jobs on this machine, in processes among which the cores are shared out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from functools import cache

from s2svos.batch.jobs import Job
from s2svos.batch.work import Outcome, Settings, work
from s2svos.workers import PoolBroken, worker_pool
from s2svos_engines.tracker import Tracker

_POLL = 0.5  # seconds in which Ctrl-C is heard
_BROKEN = "A process was ended from outside, perhaps for want of memory"


def run_here(jobs: Sequence[Job], settings: Settings, processes: int) -> Generator[Outcome]:
    """Do jobs, and yield what came of each as it ends.

    A job whose process dies is tried once more, in a process of its own, before it counts as
    failed.

    Args:
        jobs: to do.
        settings: with ``threads`` for each process.
        processes: how many; with 1 they are done in this one.
    """
    if processes == 1:
        tracker = cache(settings.load)
        for job in jobs:
            yield work(job, settings, tracker)
        return
    left = {job.name: job for job in jobs}
    for outcome in _in_pool(list(left.values()), settings, processes):
        del left[outcome.name]
        yield outcome
    for job in left.values():  # a process died with these under way, or waiting for it
        outcomes = list(_in_pool([job], settings, 1))
        yield from outcomes or [Outcome(job.name, "failed", error=f"{_BROKEN}.")]


def _in_pool(jobs: Sequence[Job], settings: Settings, processes: int) -> Generator[Outcome]:
    """Yield the outcomes of jobs, until a process dies."""
    count = min(processes, len(jobs))
    with suppress(PoolBroken), worker_pool(count, _start, settings, broken=_BROKEN) as pool:
        waiting: set[Future[Outcome]] = {pool.submit(_work, job) for job in jobs}
        while waiting:
            ended, waiting = wait(waiting, _POLL, FIRST_COMPLETED)
            for one in ended:
                yield one.result()


_settings: Settings | None = None


def _start(settings: Settings) -> None:
    global _settings
    _settings = settings


@cache
def _tracker() -> Tracker:
    assert _settings
    return _settings.load()


def _work(job: Job) -> Outcome:
    assert _settings
    return work(job, _settings, _tracker)
