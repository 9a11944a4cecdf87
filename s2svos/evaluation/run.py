"""Evaluate many videos, one after the other or several at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.protocol import Tracker, evaluate_video
from s2svos.evaluation.scores import VideoScore
from s2svos.evaluation.store import Store
from s2svos.evaluation.videos import Size, frame_count
from s2svos.workers import CONTEXT, worker_pool
from s2svos_engines.errors import UserError
from s2svos_engines.tracker import Tracker as EngineTracker

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

_LOOK_EVERY = 0.2  # seconds between two looks at how far the processes are


@dataclass(frozen=True)
class Job:
    """What a process has to know to evaluate a video.

    Args:
        bundle: the network.
        engine: that runs it.
        precision: of its graphs.
        threads: of a step.
        size: height and width at which videos are followed and scored; None for their own.
        late: whether unlisted objects may enter after the first mask.
        store: takes the results.
    """

    bundle: Path
    engine: str
    precision: str
    threads: int
    size: Size | None
    late: bool
    store: Store

    def evaluate(
        self, tracker: Tracker, video: VideoFiles, report: Callable[[int], None]
    ) -> VideoScore:
        """Evaluates a video into the store."""
        return self.store.record(
            video,
            lambda keep: evaluate_video(
                tracker, video, size=self.size, late=self.late, keep=keep, report=report
            ),
        )


def evaluate_videos(
    job: Job,
    videos: list[VideoFiles],
    tracker: Tracker,
    *,
    jobs: int = 1,
    report: Callable[[int], None] = lambda frames: None,
) -> list[VideoScore]:
    """Evaluates videos into the job's store, those that it holds already excepted.

    Args:
        job: how.
        videos: which.
        tracker: the job's network, for this process.
        jobs: videos at a time; 1 is in this process, more in as many others.
        report: is called now and then with the number of frames done since the last call.

    Returns:
        the scores in the order of the videos.

    Raises:
        UserError: of the first video that cannot be evaluated; the finished ones are stored.
    """
    scores = {video.name: score for video in videos if (score := job.store.load(video))}
    left = [video for video in videos if video.name not in scores]
    if jobs == 1 or len(left) < 2:
        scores.update((video.name, job.evaluate(tracker, video, report)) for video in left)
    else:
        try:
            scores.update(_in_processes(job, left, min(jobs, len(left)), report))
        except BaseException:
            job.store.clear(videos)  # what the processes were at
            raise
    return [scores[video.name] for video in videos]


def _in_processes(
    job: Job, videos: list[VideoFiles], jobs: int, report: Callable[[int], None]
) -> dict[str, VideoScore]:
    frames = CONTEXT.Value("q", 0)
    reported = 0
    scores: dict[str, VideoScore] = {}
    broken = (
        "A process that evaluated videos was ended from outside, perhaps for want of memory; "
        "run again with fewer --jobs, what is finished is kept."
    )
    with worker_pool(jobs, _start, job, frames, broken=broken) as pool:
        longest_first = sorted(videos, key=frame_count, reverse=True)
        waiting = {pool.submit(_evaluate, video) for video in longest_first}
        while waiting:
            finished, waiting = wait(waiting, _LOOK_EVERY, return_when=FIRST_COMPLETED)
            now = frames.get_obj().value  # without its lock, with which a process may have died
            report(now - reported)
            reported = now
            scores.update((score.name, score) for score in (one.result() for one in finished))
    return scores


class _Worker:
    """What lives in a process of the pool."""

    def __init__(self, job: Job, frames: Synchronized[int]) -> None:
        self.job = job
        self.frames = frames
        self.tracker = EngineTracker.load(
            job.bundle, engine=job.engine, precision=job.precision, threads=job.threads
        )

    def report(self, frames: int) -> None:
        """Counts frames."""
        with self.frames.get_lock():
            self.frames.value += frames


_worker: _Worker | None = None


def _start(job: Job, frames: Synchronized[int]) -> None:
    """Readies a process of the pool."""
    global _worker
    _worker = _Worker(job, frames)
    cv2.setNumThreads(job.threads)


def _evaluate(video: VideoFiles) -> VideoScore:
    assert _worker is not None
    try:
        return _worker.job.evaluate(_worker.tracker, video, _worker.report)
    except UserError as error:
        # Kinds of it with other arguments do not survive the way back.
        raise UserError(str(error)) from None
