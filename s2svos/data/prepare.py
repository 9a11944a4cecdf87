"""The resized copy of data sets: made by several processes, taken up where it was stopped."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import cv2

from s2svos.data.config import DataConfig
from s2svos.data.copies import QUALITY, Copy, Size, copies
from s2svos.data.faults import BadFile, Faults
from s2svos.data.prepared import Prepared, Settings, Source
from s2svos.workers import worker_pool
from s2svos_engines.errors import UserError

_CHUNK = 16  # copies that a process is given at once

Chunk = tuple[Sequence[Copy], Size]


@dataclass(frozen=True)
class Summary:
    """What a run of prepare did.

    Attributes:
        folders: of the copies, each with its data set.
        files: how many there are now.
        made: how many of them this run made.
        faults: what could not be read.
    """

    folders: list[tuple[DataConfig, Path]]
    files: int
    made: int
    faults: list[BadFile]


def prepare(
    sources: Sequence[DataConfig],
    out: Path,
    *,
    size: Size,
    workers: int,
    strict: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Copies data sets, resized, in their own layouts. The originals are only read.

    What an earlier run made stays as it is; every file is whole from the moment that it has its
    name.

    Args:
        sources: data sets. One becomes ``out``, several become folders in it by their own names.
        out: the new folder.
        size: of the copies.
        workers: processes.
        strict: the first file that cannot be read ends the run; else it is left out, and counted.
        report: is called with how many files are done, of how many.

    Raises:
        UserError: a source is in no such layout, ``out`` cannot be used, or a file cannot be read
            and ``strict``; what was made until then stays, and is taken up by the next run.
    """
    faults = Faults(strict=strict)
    folders = _folders(sources, out)
    plan = [copy for config, folder in folders for copy in copies(config, folder, faults)]
    files = [path for copy in plan for path in copy.outputs]
    settings = Settings(
        str(size),
        QUALITY,
        tuple(
            Source(
                config.kind, str(Path(config.root or "").resolve()), str(folder.relative_to(out))
            )
            for config, folder in folders
        ),
    )
    prepared = Prepared(out)
    try:
        prepared.begin(settings, (PurePosixPath(path.relative_to(out)) for path in files))
        left = [copy for copy in plan if copy.missing]
        earlier = done = len(files) - sum(copy.missing for copy in left)
        report(done, len(files))
        for count, found in _made(left, size, workers):
            done += count
            faults.note(*found)
            report(done, len(files))
        prepared.finish(settings, skipped=[str(path) for path in faults.found])
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: {error.strerror or error}; mend that and run again to go on."
        ) from error
    kept = sum(path.exists() for path in files)
    return Summary(folders, kept, kept - earlier, list(faults.found.values()))


def _folders(sources: Sequence[DataConfig], out: Path) -> list[tuple[DataConfig, Path]]:
    """Where each data set goes."""
    roots = [Path(config.root or "").resolve() for config in sources]
    target = out.resolve()
    for root in roots:
        if target == root or target in root.parents or root in target.parents:
            raise UserError(
                f"{out} and the data set {root} lie in one another; choose another --out."
            )
    names = [root.name for root in roots]
    if len(set(names)) < len(names):
        raise UserError("Two of the sources have the same name; prepare them into two folders.")
    single = len(sources) == 1
    return [
        (config, out if single else out / name) for config, name in zip(sources, names, strict=True)
    ]


def _made(plan: list[Copy], size: Size, workers: int) -> Iterator[tuple[int, list[BadFile]]]:
    """Makes copies; yields, after each bundle, how many files it had and what could not be read."""
    chunks = [(plan[i : i + _CHUNK], size) for i in range(0, len(plan), _CHUNK)]
    if workers == 1 or len(chunks) < 2:
        yield from map(_make, chunks)
        return
    broken = (
        "A process that prepared pictures was ended from outside, perhaps for want of memory; "
        "run again with fewer --workers to go on."
    )
    with worker_pool(min(workers, len(chunks)), cv2.setNumThreads, 1, broken=broken) as pool:
        yield from pool.map(_make, chunks)


def _make(chunk: Chunk) -> tuple[int, list[BadFile]]:
    plan, size = chunk
    missing = sum(copy.missing for copy in plan)
    return missing, [fault for copy in plan for fault in copy.make(size)]
