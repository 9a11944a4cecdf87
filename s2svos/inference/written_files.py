"""The files that runs have written into a folder, which alone a later run may replace."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from s2svos.video.decoder import frame_name
from s2svos_engines.files import is_plain_name, write_atomically

LIST = ".s2svos.files"
_KEYS = {"version", "bundle_sha256", "engine", "frames", "masks", "overlay"}  # of every run.json

MaskNames = list[str] | dict[str, int]
"""Names of masks, or ``first`` and ``last`` where they count frames without a gap."""


class WrittenFiles:
    """The list of a run's files, kept in its folder until ``run.json`` is there and says it all.

    A file is listed before it is written, so that those of a run that was killed are known too.

    Args:
        out: the folder.
        masks: the folder of masks in it.
        overlay, run: paths of the overlay and of ``run.json``.
        state: path of what a run that was killed goes on from.
    """

    def __init__(self, out: Path, *, masks: Path, overlay: Path, run: Path, state: Path) -> None:
        self._out, self._masks, self._overlay, self._run = out, masks, overlay, run
        self._state = state
        self._list = out / LIST
        self._file: TextIO | None = None
        self._names: list[str] = []

    @property
    def mask_names(self) -> MaskNames:
        """Names of the masks that were listed, for ``run.json``."""
        names = self._names
        if names and names[0].isascii() and names[0].isdigit():
            first = int(names[0])
            if names == [frame_name(first + i) for i in range(len(names))]:
                return {"first": first, "last": first + len(names) - 1}
        return names

    def of_earlier_runs(self) -> list[Path] | None:
        """Return what is there of earlier runs' files; None if nothing says that there was a run.

        Links are no files of a run.
        """
        run, listed = self._read_run(), self._read_list()
        if run is None and listed is None:
            return None
        masks = [path for path in self._masks.glob("*.png") if _is_file(path)]
        ours = set(_masks_of(run, masks)) if run else set()
        if run:
            ours |= {self._run, *([self._overlay] if run["overlay"] else [])}
        saved = [path for name in _names(run) if _is_file(path := self._out / name)]
        ours |= {*saved, self._state}
        half = [path.with_suffix("") for path in self._masks.glob("*.png.part")]
        listed_files = [self._out / name for name in listed or () if _is_plain(name)]
        files = [*masks, *half, self._overlay, *saved, *listed_files, self._run, self._state]
        there = filter(_is_there, dict.fromkeys(files))
        return [path for path in there if path in ours or self._key(path) in (listed or ())]

    def begin(self, files: Iterable[Path]) -> None:
        """Begin the list with files of earlier runs and files to come.

        Raises:
            OSError: it cannot be written.
        """
        lines = [json.dumps(self._key(path)) + "\n" for path in files]
        # At once: on a full disk the list of the earlier run stays.
        write_atomically(self._list, "".join(lines).encode("ascii"))
        self._file = self._list.open("a", encoding="ascii", buffering=1)

    def add_mask(self, path: Path) -> None:
        """List a mask that is about to be written.

        Raises:
            OSError: the list cannot be written.
        """
        self._add(path)
        self._names.append(path.stem)

    def end(self) -> None:
        """Remove the list."""
        if self._file:
            self._file.close()
            self._list.unlink(missing_ok=True)

    def _add(self, path: Path) -> None:
        assert self._file is not None
        self._file.write(json.dumps(self._key(path)) + "\n")

    def _key(self, path: Path) -> str:
        return path.relative_to(self._out).as_posix()

    def _read_list(self) -> set[Any] | None:
        if not _is_file(self._list):
            return None
        found = set()
        for line in self._list.read_text("ascii", "replace").splitlines():
            # One that a kill cut off is of a file that was not begun.
            with suppress(ValueError, TypeError, RecursionError):
                found.add(json.loads(line))
        return found

    def _read_run(self) -> dict[str, Any] | None:
        if not _is_file(self._run):
            return None
        try:
            run = json.loads(self._run.read_bytes())
        except (ValueError, RecursionError):
            return None
        return run if isinstance(run, dict) and run.keys() >= _KEYS else None


def _names(run: dict[str, Any] | None) -> list[str]:
    """Return the names of a run's further files, each in the folder itself."""
    names = run.get("saved") if run else None
    return [name for name in names if _is_plain(name)] if isinstance(names, list) else []


def _is_plain(name: object) -> bool:
    return isinstance(name, str) and is_plain_name(name)


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_there(path: Path) -> bool:
    """Return whether there is a file, or the part of one that a kill left."""
    return _is_file(path) or (
        not os.path.lexists(path) and _is_file(path.with_name(f"{path.name}.part"))
    )


def _masks_of(run: dict[str, Any], masks: Sequence[Path]) -> Iterable[Path]:
    """Return those of the masks in its folder that a run wrote."""
    names = run.get("mask_names")
    if isinstance(names, list):
        listed = {name for name in names if isinstance(name, str)}
        return (path for path in masks if path.stem in listed)
    numbered = (path for path in masks if path.stem.isascii() and path.stem.isdigit())
    frames = {path: int(path.stem) for path in numbered if path.stem == frame_name(int(path.stem))}
    if isinstance(names, dict):
        first, last = names.get("first"), names.get("last")
        if not (isinstance(first, int) and isinstance(last, int)):
            return ()
        return (path for path, index in frames.items() if first <= index <= last)
    # Of an earlier version, which kept no names.
    return masks if len(masks) == run["frames"] else frames
