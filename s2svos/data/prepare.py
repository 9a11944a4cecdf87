"""The folder that ``s2svos prepare`` makes: what it is, what is in it, and how it goes away.

The resized copy of data sets: made by several processes, taken up where it was stopped."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from s2svos.data.config import DataConfig
from s2svos.data.files import BadFile, Faults
from s2svos.data.resized_copy import QUALITY, Copy, Size, copies
from s2svos.workers import worker_pool
from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

FACTS, FILES = "prepare.json", "prepare.txt"
_MADE_BY = "s2svos prepare"


@dataclass(frozen=True)
class Source:
    """One data set of a prepared folder.

    Args:
        kind: how its files lie.
        root: of the original.
        folder: of the copy, below the prepared folder.
    """

    kind: str
    root: str
    folder: str


@dataclass(frozen=True)
class Settings:
    """What a prepared folder depends on.

    Args:
        size: as typed, ``256x448`` or ``256``.
        quality: of the JPEGs.
        sources: of the pictures.
    """

    size: str
    quality: int
    sources: tuple[Source, ...]


class Prepared:
    """A folder of copies, with ``prepare.txt`` (every file that is its own) and ``prepare.json``.

    The list is written before anything that is in it, so that a folder of which only a part was
    made is known for what it is.

    Args:
        out: the folder.
    """

    def __init__(self, out: Path) -> None:
        self.out = out

    def begin(self, settings: Settings, files: Iterable[PurePosixPath]) -> None:
        """Makes the folder, or goes on with the one of an earlier run.

        Args:
            settings: what is going to be made.
            files: that are going to be written, below the folder.

        Raises:
            UserError: the folder holds something else, or copies by other settings.
        """
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out} is a file, no folder", "choose another --out")
        listed = self._listed()
        earlier = self._facts()
        if earlier is not None and earlier["settings"] != _json(settings):
            raise UserError(
                f"{self.out} was prepared with other settings or sources",
                f"choose another --out, or take it away with s2svos prepare --remove {self.out}",
            )
        if earlier is None and not listed and self.out.exists() and any(self.out.iterdir()):
            raise UserError(f"{self.out} is not empty", "choose another --out")
        self.out.mkdir(parents=True, exist_ok=True)
        merged = sorted({*listed, *map(str, files)})
        write_atomically(self.out / FILES, "".join(f"{name}\n" for name in merged).encode())
        self._write(settings, finished=False)

    def finish(self, settings: Settings, *, skipped: list[str]) -> None:
        """Says in ``prepare.json`` that all was made, but for what could not be read."""
        self._write(settings, finished=True, skipped=skipped)

    def remove(self) -> int:
        """Takes away what was made, and the folders that are empty then.

        Returns:
            How many files were taken away. Others stay, and so do the folders that hold them.

        Raises:
            UserError: nothing here says that the folder was prepared.
        """
        if self._facts() is None and not (self.out / FILES).is_file():
            raise UserError(f"{self.out} was not made by s2svos prepare", "nothing was removed")
        names, removed = self._listed(), 0
        if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in names):
            raise UserError(f"{self.out / FILES} lists files outside", "nothing was removed")
        paths = [self.out / name for name in names]
        for path in paths:
            path.with_name(f"{path.name}.part").unlink(missing_ok=True)
            removed += path.exists()
            path.unlink(missing_ok=True)
        inside = {folder for path in paths for folder in path.parents if self.out in folder.parents}
        for folder in sorted(inside, key=lambda folder: len(folder.parts), reverse=True):
            _remove_empty(folder)
        # Last, so that a removal that was stopped can be taken up.
        for name in (FACTS, FILES):
            (self.out / name).unlink(missing_ok=True)
            (self.out / f"{name}.part").unlink(missing_ok=True)
        _remove_empty(self.out)
        return removed

    def _listed(self) -> list[str]:
        path = self.out / FILES
        return path.read_text("utf-8").splitlines() if path.is_file() else []

    def _facts(self) -> dict[str, Any] | None:
        path = self.out / FACTS
        if not path.is_file():
            return None
        try:
            facts = json.loads(path.read_text("utf-8"))
            if facts["made_by"] != _MADE_BY or not isinstance(facts["settings"], dict):
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} was not written by s2svos prepare", "move it away") from error
        return dict(facts)

    def _write(self, settings: Settings, *, finished: bool, skipped: Iterable[str] = ()) -> None:
        facts = {
            "made_by": _MADE_BY,
            "finished": finished,
            "settings": _json(settings),
            "skipped": list(skipped),
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.out / FACTS, text.encode())


def _json(settings: Settings) -> Any:
    return json.loads(json.dumps(asdict(settings)))


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


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
            f"{error.filename or out}: {error.strerror or error}",
            "mend that and run again to go on",
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
                f"{out} and the data set {root} lie in one another", "choose another --out"
            )
    names = [root.name for root in roots]
    if len(set(names)) < len(names):
        raise UserError("Two of the sources have the same name", "prepare them into two folders")
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
