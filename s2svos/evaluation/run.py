"""The evaluation of many videos into a folder, one after the other or several at a time."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import cv2

import s2svos
from s2svos.data.layouts import VideoFiles
from s2svos.environment import environment
from s2svos.evaluation.pictures import draw_j_over_time, draw_worst
from s2svos.evaluation.protocol import Tracker, evaluate_video
from s2svos.evaluation.report import write_csv, write_json, write_submission
from s2svos.evaluation.scores import VideoScore
from s2svos.evaluation.store import Store
from s2svos.evaluation.videos import Size, VideoSet, frame_count
from s2svos.locks import locked_folder
from s2svos.workers import CONTEXT, blocked_signals, worker_pool
from s2svos_engines.bundle import Bundle
from s2svos_engines.cpu import cpu_count
from s2svos_engines.errors import UserError
from s2svos_engines.tracker import Tracker as EngineTracker

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

_POLL = 0.2  # seconds between two looks at the progress of the processes


@dataclass(frozen=True)
class Result:
    """The result of an evaluation.

    Attributes:
        scores: in the order of the videos.
        engine: name of the engine that was used, and its precision.
        plotted: J over time was drawn, which needs matplotlib, or there was nothing to draw.
    """

    scores: list[VideoScore]
    engine: str
    plotted: bool


def evaluate(
    bundle: Bundle,
    videos: VideoSet,
    out: Path,
    *,
    model: tuple[Path, str] | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    window: str = "off",
    size: Size | None = None,
    jobs: int = 1,
    threads: int | None = None,
    overwrite: bool = False,
    log: Callable[[str], None] = lambda text: None,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Result:
    """Evaluate a bundle on videos; masks, tables and pictures go to a folder.

    The same call goes on after an interruption.

    Args:
        bundle: to evaluate.
        videos: with their true masks.
        out: the folder.
        model: path and SHA-256 of the file that the bundle was made from; None: the bundle itself.
        engine, precision, window: as :meth:`s2svos_engines.tracker.Tracker.load`.
        size: height and width at which videos are followed and scored; None for their own.
        jobs: videos at a time.
        threads: processor threads of a step; None: the cores divided by ``jobs``.
        overwrite: an evaluation with other settings may be replaced.
        log: called with a sentence if some videos are finished already.
        report: called with the number of frames done and of all frames.

    Raises:
        UserError: the bundle or a video cannot be used, or the folder cannot be written or is
            another run's; finished videos are kept.
    """
    with locked_folder(out):
        path, sha256 = model or (bundle.path, bundle.sha256)
        threads = threads or max(1, cpu_count() // jobs)
        tracker = EngineTracker.load(
            bundle.path, engine=engine, precision=precision, threads=threads, window=window
        )
        store = Store(
            out,
            {
                "network": sha256,
                "engine": tracker.engine.title,
                "precision": tracker.engine.precision,
                **({} if window == "off" else {"window": window}),
                "data": videos.name,
                "size": list(size) if size else None,
                "version": s2svos.__version__,
            },
        )
        store.begin(videos.files, overwrite=overwrite)
        finished = [video for video in videos.files if store.load(video)]
        if finished:
            log(f"{len(finished)} of {len(videos.files)} videos are in {out} already.")
        total, done = (sum(map(frame_count, some)) for some in (videos.files, finished))
        report(done, total)

        def count(frames: int) -> None:
            nonlocal done
            done += frames
            report(done, total)

        job = Job(
            bundle.path,
            tracker.engine_name,
            tracker.engine.precision,
            window,
            threads,
            size,
            videos.late,
            store,
        )
        scores = evaluate_videos(job, videos.files, tracker, jobs=jobs, report=count)
        facts = {
            **store.settings,
            "model": str(path),
            "bundle_sha256": bundle.sha256,
            "jobs": jobs,
            "threads": threads,
            "environment": environment(),
        }
        write_json(out / "results.json", scores, facts)
        write_csv(out / "results.csv", scores)
        if videos.submission:
            write_submission(out / "submission.zip", store.masks, [score.name for score in scores])
        plotted = _draw(out, scores, videos.files, store.masks)
        return Result(scores, f"{tracker.engine.title} {tracker.engine.precision}", plotted)


@dataclass(frozen=True)
class Job:
    """The settings that a process needs to evaluate a video.

    Args:
        bundle: the network.
        engine: that runs it.
        precision: of its graphs.
        window: which part of the frames it sees.
        threads: of a step.
        size: height and width at which videos are followed and scored; None for their own.
        late: unlisted objects may enter after the first mask.
        store: takes the results.
    """

    bundle: Path
    engine: str
    precision: str
    window: str
    threads: int
    size: Size | None
    late: bool
    store: Store

    def evaluate(
        self, tracker: Tracker, video: VideoFiles, report: Callable[[int], None]
    ) -> VideoScore:
        """Evaluate a video into the store."""
        with self.store.record(video) as recording:
            score = evaluate_video(
                tracker,
                video,
                size=self.size,
                late=self.late,
                save_mask=recording.save_mask,
                report=report,
            )
            recording.finish(score)
        return score


def evaluate_videos(
    job: Job,
    videos: Sequence[VideoFiles],
    tracker: Tracker,
    *,
    jobs: int = 1,
    report: Callable[[int], None] = lambda frames: None,
) -> list[VideoScore]:
    """Evaluate videos into the job's store, except those that it holds already.

    Args:
        job: the settings.
        videos: to evaluate.
        tracker: the job's network, for this process.
        jobs: videos at a time; 1 is in this process, more in as many others.
        report: called now and then with the number of frames done since the last call.

    Returns:
        The scores in the order of the videos.

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
            job.store.remove_stale(videos)  # half a video of each process
            raise
    return [scores[video.name] for video in videos]


def _draw(
    out: Path, scores: Sequence[VideoScore], videos: Sequence[VideoFiles], masks: Path
) -> bool:
    """Draw the worst videos and J over time; returns False if the latter lacks matplotlib."""
    if not any(score.scored for score in scores):
        return True
    draw_worst(out / "worst.png", scores, {video.name: video for video in videos}, masks)
    if not importlib.util.find_spec("matplotlib"):
        return False
    draw_j_over_time(out / "j_over_time.png", scores)
    return True


def _in_processes(
    job: Job, videos: Sequence[VideoFiles], jobs: int, report: Callable[[int], None]
) -> dict[str, VideoScore]:
    try:
        with blocked_signals():  # for the process of multiprocessing that keeps account of memory
            frames = CONTEXT.Value("q", 0)
    except OSError as error:
        raise UserError(
            f"Processes cannot share memory here ({error.strerror})", "run with --jobs 1"
        ) from error
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
            finished, waiting = wait(waiting, _POLL, return_when=FIRST_COMPLETED)
            now = frames.get_obj().value  # without its lock, with which a process may have died
            report(now - reported)
            reported = now
            scores.update((score.name, score) for score in (one.result() for one in finished))
    return scores


class _Worker:
    """The state of a process of the pool.

    Args:
        job: the settings.
        frames: done by all processes.
    """

    def __init__(self, job: Job, frames: Synchronized[int]) -> None:
        self.job = job
        self.frames = frames
        self.tracker = EngineTracker.load(
            job.bundle,
            engine=job.engine,
            precision=job.precision,
            threads=job.threads,
            window=job.window,
        )

    def count(self, frames: int) -> None:
        """Add to the number of frames done."""
        with self.frames.get_lock():
            self.frames.value += frames


_worker: _Worker | None = None


def _start(job: Job, frames: Synchronized[int]) -> None:
    """Prepare a process of the pool."""
    global _worker
    _worker = _Worker(job, frames)
    cv2.setNumThreads(job.threads)


def _evaluate(video: VideoFiles) -> VideoScore:
    assert _worker is not None
    return _worker.job.evaluate(_worker.tracker, video, _worker.count)
