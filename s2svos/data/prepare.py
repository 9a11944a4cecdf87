"""The resized copy of data sets: made by several processes, taken up where it was stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import cv2

from s2svos.data.config import DataConfig
from s2svos.data.files import BadFileError, SkippedFiles
from s2svos.data.resized_copy import QUALITY, Copy, Size, copies
from s2svos.locks import content, locked_folder
from s2svos.workers import worker_pool
from s2svos_engines.cpu import cpu_count
from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

MANIFEST, LIST = "prepare.json", "prepare.txt"
_MADE_BY = "s2svos prepare"
_CHUNK = 16  # copies that a process is given at once


@dataclass(frozen=True)
class Summary:
    """The result of a run of :func:`prepare`.

    Attributes:
        folders: of the copies, each with its data set.
        files: how many there are now.
        made: how many of them this run made.
        skipped: the files that could not be read.
    """

    folders: list[tuple[DataConfig, Path]]
    files: int
    made: int
    skipped: SkippedFiles


def prepare(
    sources: Sequence[DataConfig],
    out: Path,
    *,
    size: Size,
    workers: int | None = None,
    strict: bool = False,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> Summary:
    """Copy data sets, resized, in their own layouts. The originals are only read.

    Files that an earlier run made stay as they are. Every file is whole once it has its name.

    Args:
        sources: data sets. One becomes ``out``, several become folders in it by their own names.
        out: the new folder.
        size: of the copies.
        workers: processes; None for one a core.
        strict: the first file that cannot be read ends the run; else it is left out, and counted.
        report: called with the number of files done and of all files.

    Raises:
        UserError: a source is in no such layout, ``out`` cannot be used or another run has it, or
            a file cannot be read and ``strict``; what was made until then stays, and is taken up by
            the next run.
    """
    skipped = SkippedFiles(strict=strict)
    folders = _folders(sources, out)
    plan = [copy for config, folder in folders for copy in copies(config, folder, skipped)]
    files = [path for copy in plan for path in copy.outputs]
    settings = {
        "size": str(size),
        "quality": QUALITY,
        "sources": [
            {
                "kind": config.kind.value,
                "root": str(Path(config.root or "").resolve()),
                "folder": str(folder.relative_to(out)),
            }
            for config, folder in folders
        ],
    }
    prepared = PreparedFolder(out)
    try:
        with locked_folder(out):
            prepared.begin(settings, (PurePosixPath(path.relative_to(out)) for path in files))
            left = [copy for copy in plan if copy.missing]
            earlier = done = len(files) - sum(copy.missing for copy in left)
            report(done, len(files))
            with _without_half_files(left):
                for count, errors in _make_all(left, size, workers or cpu_count()):
                    done += count
                    skipped.add(*errors)
                    report(done, len(files))
            prepared.finish(settings, skipped=[str(path) for path in skipped.errors])
    except OSError as error:
        raise UserError(
            f"{error.filename or out}: {error.strerror or error}",
            "mend that and run again to go on",
        ) from error
    existing = sum(path.exists() for path in files)
    return Summary(folders, existing, existing - earlier, skipped)


class PreparedFolder:
    """A folder of copies, with ``prepare.txt`` (a list of its files) and ``prepare.json``.

    The list is written before any file that is in it, so that a folder of which only a part was
    made is recognised.

    Args:
        out: the folder.
    """

    def __init__(self, out: Path) -> None:
        self._out = out

    def begin(self, settings: dict[str, Any], files: Iterable[PurePosixPath]) -> None:
        """Make the folder, or go on with the one of an earlier run.

        Args:
            settings: what the copies depend on, as JSON types: size, quality and sources.
            files: that are going to be written, below the folder.

        Raises:
            UserError: the folder holds something else, or copies by other settings.
        """
        out = self._out
        listed = self._listed()
        earlier = self._manifest()
        if earlier is not None and earlier["settings"] != settings:
            raise UserError(
                f"{out} was prepared with other settings or sources",
                f"choose another --out, or take it away with s2svos prepare --remove {out}",
            )
        if earlier is None and not listed and content(out):
            raise UserError(f"{out} is not empty", "choose another --out")
        merged = sorted({*listed, *map(str, files)})
        if broken := next((name for name in merged if "\n" in name), None):
            raise UserError(f"{broken!r} has a line break in its name", "give the file another")
        write_atomically(out / LIST, os.fsencode("".join(f"{name}\n" for name in merged)))
        self._write(settings, finished=False)

    def finish(self, settings: dict[str, Any], *, skipped: list[str]) -> None:
        """Record in ``prepare.json`` that everything but the skipped files was made."""
        self._write(settings, finished=True, skipped=skipped)

    def remove(self) -> int:
        """Remove the files that were made, and the folders that are empty then.

        Returns:
            The number of files that were removed. Others stay, and so do links, what is behind
            them, and the folders that hold any of these.

        Raises:
            UserError: nothing here says that the folder was prepared, or a run has it.
        """
        with locked_folder(self._out):
            removed = self._remove()
        _remove_empty(self._out)
        return removed

    def _remove(self) -> int:
        out = self._out
        if self._manifest() is None and not (out / LIST).is_file():
            raise UserError(f"{out} was not made by s2svos prepare", "nothing was removed")
        names, removed = self._listed(), 0
        if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in names):
            raise UserError(f"{out / LIST} lists files outside", "nothing was removed")
        paths = [out / name for name in names]
        inside = {folder for path in paths for folder in path.parents if out in folder.parents}
        links = {folder for folder in inside if folder.is_symlink()}
        for path in paths:
            if path.is_symlink() or links & {*path.parents}:
                continue
            _part(path).unlink(missing_ok=True)
            removed += path.exists()
            path.unlink(missing_ok=True)
        for folder in sorted(inside - links, key=lambda folder: len(folder.parts), reverse=True):
            _remove_empty(folder)
        # Last, so that a removal that was stopped can be taken up.
        for name in (MANIFEST, LIST):
            (out / name).unlink(missing_ok=True)
            _part(out / name).unlink(missing_ok=True)
        return removed

    def _listed(self) -> list[str]:
        path = self._out / LIST
        return os.fsdecode(path.read_bytes()).split("\n")[:-1] if path.is_file() else []

    def _manifest(self) -> dict[str, Any] | None:
        path = self._out / MANIFEST
        if not path.is_file():
            return None
        try:
            manifest = json.loads(path.read_text("utf-8"))
            if manifest["made_by"] != _MADE_BY or not isinstance(manifest["settings"], dict):
                raise ValueError
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{path} was not written by s2svos prepare", "move it away") from error
        return dict(manifest)

    def _write(
        self, settings: dict[str, Any], *, finished: bool, skipped: Sequence[str] = ()
    ) -> None:
        manifest = {
            "made_by": _MADE_BY,
            "finished": finished,
            "settings": settings,
            "skipped": list(skipped),
        }
        text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self._out / MANIFEST, text.encode(errors="backslashreplace"))


def _folders(sources: Sequence[DataConfig], out: Path) -> list[tuple[DataConfig, Path]]:
    """Return each data set with the folder of its copy."""
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


@contextmanager
def _without_half_files(plan: Sequence[Copy]) -> Iterator[None]:
    """Remove the half files of processes that are ended in the midst of them."""
    try:
        yield
    except BaseException:
        for copy in plan:
            for path in copy.outputs:
                _part(path).unlink(missing_ok=True)
        raise


def _part(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


_Chunk = tuple[Sequence[Copy], Size]


def _make_all(
    plan: list[Copy], size: Size, workers: int
) -> Iterator[tuple[int, list[BadFileError]]]:
    """Make copies; yields for each chunk its number of files and those that cannot be read."""
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


def _make(chunk: _Chunk) -> tuple[int, list[BadFileError]]:
    plan, size = chunk
    missing = sum(copy.missing for copy in plan)
    return missing, [error for copy in plan for error in copy.make(size)]


def _remove_empty(folder: Path) -> None:
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
