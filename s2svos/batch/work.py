"""One job after the other on one tracker: what each process, or actor, does."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from s2svos.batch.jobs import Job
from s2svos.batch.places import fetched, finished_run, joined, store
from s2svos.inference.run import Finished, infer
from s2svos.pipeline import EndedEarly
from s2svos.video.address import is_address
from s2svos.video.masks import read_first_mask
from s2svos.video.reader import Video
from s2svos_engines.errors import UserError
from s2svos_engines.tracker import Tracker


@dataclass(frozen=True)
class Settings:
    """What all jobs share.

    Args:
        out: folder, or address, for a folder of results each.
        bundle: path of the network.
        engine, precision, window: as :meth:`s2svos_engines.tracker.Tracker.load`.
        threads: processor threads of a step; None for one a core.
        overlay: also make ``overlay.mp4``.
        save: other formats to make.
        snap: let the network draw the edges of masks.
    """

    out: str
    bundle: Path
    engine: str
    precision: str
    window: str
    threads: int | None
    overlay: bool
    save: tuple[str, ...]
    snap: bool

    def load(self) -> Tracker:
        """Open the network."""
        return Tracker.load(
            self.bundle,
            engine=self.engine,
            precision=self.precision,
            window=self.window,
            threads=self.threads,
        )


@dataclass(frozen=True)
class Outcome:
    """What came of a job.

    Args:
        name: of the job.
        state: ``done``; ``was done``, by an earlier call; ``partial``, for a video that was cut
            off; or ``failed``.
        frames: masks that are there.
        seconds: that it took now.
        error: the sentence that ended it; empty if none did.
    """

    name: str
    state: str
    frames: int = 0
    seconds: float = 0.0
    error: str = ""

    @property
    def well(self) -> bool:
        """Whether all masks are there."""
        return self.state in ("done", "was done")


def work(job: Job, settings: Settings, tracker: Callable[[], Tracker]) -> Outcome:
    """Do a job, unless it is done; go on with it where an earlier call was ended.

    Whatever it dies of is told in the outcome: a job that fails stops no other.
    """
    began = time.perf_counter()
    try:
        place = joined(settings.out, job.name)
        if run := finished_run(place):
            return Outcome(job.name, "was done", int(run["frames"]))
        frames = _follow(job, settings, tracker, place)
    except EndedEarly as error:
        kept = _frames_there(settings, job)
        seconds = time.perf_counter() - began
        return Outcome(job.name, "partial" if kept else "failed", kept, seconds, str(error))
    except UserError as error:
        return Outcome(job.name, "failed", 0, time.perf_counter() - began, str(error))
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        return Outcome(job.name, "failed", 0, time.perf_counter() - began, told)
    return Outcome(job.name, "done", frames, time.perf_counter() - began)


def _follow(job: Job, settings: Settings, tracker: Callable[[], Tracker], place: str) -> int:
    with tempfile.TemporaryDirectory(prefix="s2svos-") as name:
        folder = Path(name)
        mask = fetched(job.mask, folder)
        video = Video(fetched(job.video, folder), start=job.start, end=job.end, beside=[mask])
        out = folder / "out" if is_address(place) else Path(place)
        ended: EndedEarly | None = None
        frames = 0
        try:
            with suppress(Finished):
                frames = infer(
                    video,
                    read_first_mask(mask, size=(video.height, video.width)),
                    tracker,
                    out=out,
                    snap=settings.snap,
                    overlay=settings.overlay,
                    save=settings.save,
                    resume=True,
                ).frames
        except EndedEarly as error:
            ended = error
        if is_address(place) and out.exists():
            store(out, place)
        if ended:
            raise ended
        return frames


def _frames_there(settings: Settings, job: Job) -> int:
    """Return how many masks a job left that ended early, in a folder here."""
    place = joined(settings.out, job.name)
    return 0 if is_address(place) else len(list(Path(place, "masks").glob("*.png")))
