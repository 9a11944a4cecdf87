"""The folder that a run writes: ``masks/``, ``overlay.mp4`` and ``run.json``."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from s2svos_engines.errors import UserError


@contextmanager
def disk_errors(out: Path, *, again: str = "run again with --overwrite") -> Iterator[None]:
    """Says in a sentence why a file could not be written.

    Args:
        out: what was written to.
        again: what to do once there is space.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"the disk is full; free some space and {again}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "permission is denied; choose another --out"
        else:
            hint = f"{error.strerror or error}; choose another --out"
        raise UserError(f"{out} cannot be written: {hint}.") from error


class Results:
    """An output folder that leaves nothing behind until there is a result.

    Args:
        out: the folder; missing or empty, unless ``overwrite``.
        overwrite: replace an earlier run's files; others in the folder stay.
        inputs: files and folders that must not be among the replaced.

    Attributes:
        masks, overlay, run: paths of what is written.

    Raises:
        UserError: the folder may not be used.
    """

    def __init__(self, out: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
        self.out = out
        self.masks = out / "masks"
        self.overlay = out / "overlay.mp4"
        self.run = out / "run.json"
        self._made: list[Path] = []
        self._created = False
        with disk_errors(out):
            self._check(overwrite, inputs)

    def _check(self, overwrite: bool, inputs: tuple[Path, ...]) -> None:
        existing = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"{existing} is a file, no folder; choose another --out.")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "permission denied", str(existing))
        if existing is self.out and any(self.out.iterdir()):
            if not overwrite:
                raise UserError(
                    f"{self.out} is not empty; choose another --out, or replace the earlier "
                    "results in it with --overwrite."
                )
            ours = self.masks.resolve(), self.overlay.resolve(), self.run.resolve()
            for path in inputs:
                if {path.resolve(), *path.resolve().parents} & {*ours}:
                    raise UserError(
                        f"{path} is an input and would be overwritten; choose another --out."
                    )

    def create(self) -> None:
        """Makes the folder and clears an earlier run's files out of it.

        Raises:
            UserError: it cannot be written.
        """
        self._created = True
        with disk_errors(self.out):
            missing = [path for path in (self.masks, *self.masks.parents) if not path.exists()]
            for path in reversed(missing):
                path.mkdir()
                self._made.append(path)
            self._clear()

    def discard(self) -> None:
        """Takes away the files of this run and every folder that it made."""
        if not self._created:
            return
        self._clear()
        for path in reversed(self._made):
            path.rmdir()
        self._made.clear()

    def write_run(self, facts: dict[str, Any]) -> None:
        """Writes ``run.json`` under a temporary name and renames it.

        Raises:
            UserError: it cannot be written; nothing is left of it.
        """
        part = self.run.with_name("run.json.part")
        with disk_errors(self.out):
            try:
                part.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
                part.replace(self.run)
            except OSError:
                part.unlink(missing_ok=True)
                raise

    def _clear(self) -> None:
        for path in (*self.masks.glob("*.png"), *self.masks.glob("*.png.part")):
            path.unlink()
        for path in (self.overlay, self.run):
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.part").unlink(missing_ok=True)
