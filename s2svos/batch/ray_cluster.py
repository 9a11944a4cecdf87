"""Jobs on a Ray cluster: an actor has a tracker, and a node that dies costs no job."""

from __future__ import annotations

import dataclasses
import socket
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from s2svos.batch.jobs import Job
from s2svos.batch.work import Outcome, Settings, work
from s2svos.extras import needs
from s2svos_engines.errors import UserError
from s2svos_engines.registry import GPU_ENGINES
from s2svos_engines.tracker import Tracker

_AHEAD = 2  # jobs that an actor has: the next one waits there while one is under way
_PATIENCE = 10.0  # seconds for a cluster to answer
_DEATHS = 5  # of nodes or processes, after which a job that they had counts as failed


class Worker:
    """What an actor does.

    Args:
        settings: of all jobs.
        bundle: bytes of the network, which its node may not have.
    """

    def __init__(self, settings: Settings, bundle: bytes) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="s2svos-")
        path = Path(self._folder.name, settings.bundle.name)
        path.write_bytes(bundle)
        self._settings = dataclasses.replace(settings, bundle=path)
        self._tracker: Callable[[], Tracker] = cache(self._settings.load)

    def work(self, job: Job) -> Outcome:
        """Do a job."""
        return work(job, self._settings, self._tracker)


def run_on_ray(
    jobs: Sequence[Job], settings: Settings, *, address: str, processes: int | None, threads: int
) -> Generator[Outcome]:
    """Do jobs on a cluster, and yield what came of each as it ends.

    Videos, masks and results are at addresses, or on paths that all nodes have. A job whose node
    dies is done again, or gone on with, on another.

    Args:
        jobs: to do.
        settings: of all.
        address: ``ray`` for one on this machine, ``ray://HOST:PORT`` or ``HOST:PORT`` for another.
        processes: actors; None for as many as the cluster has room for.
        threads: cores that an actor asks for; with an engine for GPUs it asks for one of those too.

    Raises:
        UserError: the extra ``ray`` is missing, or there is no such cluster.
    """
    with needs("ray"):
        import ray
    _connect(ray, address)
    try:
        gpus = 1 if settings.engine in GPU_ENGINES else 0
        kind = ray.remote(num_cpus=threads, num_gpus=gpus)(Worker)
        shared = dataclasses.replace(settings, threads=threads)
        bundle = ray.put(settings.bundle.read_bytes())
        count = min(processes or _room(ray, threads, gpus), len(jobs))
        yield from _Actors(ray, lambda: kind.remote(shared, bundle), count).work(jobs)
    finally:
        ray.shutdown()


class _Actors:
    """Gives jobs to actors, each of which has a few, and replaces actors that die.

    Args:
        ray: the module.
        start: starts an actor, wherever the cluster has room, as soon as it has.
        count: of the actors.
    """

    def __init__(self, ray: Any, start: Callable[[], Any], count: int) -> None:
        self._ray, self._start = ray, start
        self._actors = [start() for _ in range(count)]
        self._under_way: dict[Any, tuple[Any, Job]] = {}  # by what Ray calls the result to come

    def work(self, jobs: Sequence[Job]) -> Generator[Outcome]:
        """Do jobs, and yield what came of each as it ends."""
        waiting, deaths = list(jobs)[::-1], Counter[str]()
        while waiting or self._under_way:
            self._hand_out(waiting)
            (ended,), _ = self._ray.wait(list(self._under_way), num_returns=1)
            actor, job = self._under_way.pop(ended)
            try:
                yield self._ray.get(ended)
            except self._ray.exceptions.RayActorError as error:
                if actor in self._actors:  # the first of its jobs tells of its death
                    self._actors[self._actors.index(actor)] = self._start()
                deaths[job.name] += 1
                if deaths[job.name] < _DEATHS:
                    waiting.append(job)
                else:
                    told = f"Its node, or its process, died {_DEATHS} times ({error})."
                    yield Outcome(job.name, "failed", error=told)

    def _hand_out(self, waiting: list[Job]) -> None:
        busy = Counter(id(actor) for actor, _ in self._under_way.values())
        for _ in range(_AHEAD):
            for actor in self._actors:
                if waiting and busy[id(actor)] < _AHEAD:
                    job = waiting.pop()
                    busy[id(actor)] += 1
                    self._under_way[actor.work.remote(job)] = actor, job


def _connect(ray: Any, address: str) -> None:
    where = None if address == "ray" else address
    if where:
        _need_listener(where)  # Ray itself tries for minutes
    try:
        ray.init(address=where, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(
            f"There is no Ray cluster at {address} ({error})", "start one with ray start --head"
        ) from error


def _need_listener(address: str) -> None:
    host, _, port = address.rpartition("/")[2].rpartition(":")
    try:
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"There is no Ray cluster at {address} ({error})",
            "start one with ray start --head, which prints its address",
        ) from error


def _room(ray: Any, threads: int, gpus: int) -> int:
    """Return how many actors the cluster has room for."""
    there = ray.cluster_resources()
    room = int(there.get("CPU", 1) // threads)
    return max(1, min(room, int(there.get("GPU", 0) // gpus)) if gpus else room)
