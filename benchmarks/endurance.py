"""Whether memory and file descriptors stay the same over many frames, and over many streams.

python -m benchmarks.endurance --frames 100000 --streams 10000 --bundle SMALL.s2s
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.report import append_json, describe, print_table, run_script
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.arrays import Frame, Labels
    from s2svos_engines.tracker import Tracker

SAMPLES = 10  # that are taken on the way
WARM_UP = 3  # of these, in which caches fill


@dataclass(frozen=True)
class Sample:
    """What the process held.

    Args:
        done: frames, or streams, so far.
        mib: of memory that is in use.
        files: descriptors that are open.
    """

    done: int
    mib: float
    files: int


@dataclass(frozen=True)
class Growth:
    """How much more was held in the end than after warming up.

    Args:
        samples: that were taken on the way.
    """

    samples: tuple[Sample, ...]

    @property
    def mib(self) -> float:
        """Mebibytes of memory."""
        return self.samples[-1].mib - max(one.mib for one in self.samples[:WARM_UP])

    @property
    def files(self) -> int:
        """Descriptors."""
        return self.samples[-1].files - self.samples[WARM_UP - 1].files


def main(
    frames: Annotated[int, typer.Option(min=SAMPLES, help="Through one stream.")] = 100_000,
    streams: Annotated[int, typer.Option(min=SAMPLES, help="Opened and dropped.")] = 10_000,
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or auto.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Follow two objects for long, and open and drop streams."""
    import s2svos

    tracker = s2svos.load(bundle, engine=engine)
    growths = {"frames": over_frames(tracker, frames), "streams": over_streams(tracker, streams)}
    rows = [
        (f"{one.done} {kind}", f"{one.mib:.1f}", str(one.files))
        for kind, growth in growths.items()
        for one in growth.samples
    ]
    print_table(f"Held by {tracker.engine_name}", ("after", "MiB", "files"), rows)
    for kind, growth in growths.items():
        typer.echo(f"{kind}: {growth.mib:+.1f} MiB and {growth.files:+d} files after warming up")
    if json:
        samples = {
            kind: [asdict(one) for one in growth.samples] for kind, growth in growths.items()
        }
        append_json(json, "endurance", {**describe(tracker), **samples})


def over_frames(tracker: Tracker, count: int) -> Growth:
    """Follow two objects through so many frames.

    Raises:
        UserError: the system does not tell what a process holds.
    """
    clip = _clip()
    stream = tracker.open(*clip[0])
    # There and back, so that the objects stay in sight.
    frames = itertools.cycle([frame for frame, _ in [*clip[1:], *clip[-2:0:-1]]])
    following = stream.follow(itertools.islice(frames, count))
    return Growth(tuple(_sampled(following, count)))


def over_streams(tracker: Tracker, count: int) -> Growth:
    """Open so many streams one after the other, each for two frames.

    Raises:
        UserError: the system does not tell what a process holds.
    """
    clip = _clip()
    labels = (tracker.open(*clip[0]).step(clip[1][0]) for _ in range(count))
    return Growth(tuple(_sampled(labels, count)))


def _sampled(work: Iterator[object], count: int) -> Iterator[Sample]:
    """Yield what the process holds, at regular times during work of so many items."""
    for done, _ in enumerate(work, 1):
        if done * SAMPLES // count > (done - 1) * SAMPLES // count:
            yield Sample(done, _mebibytes(), len(os.listdir("/proc/self/fd")))


def _mebibytes() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError as error:
        raise UserError("This system does not tell what a process holds", "use Linux") from error
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _clip() -> list[tuple[Frame, Labels]]:
    from s2svos.sample.render import render

    return list(render(length=12, height=90, width=160))


if __name__ == "__main__":
    run_script(main)
