"""The folder that ``s2svos prepare`` makes: what it is, what is in it, and how it goes away."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from s2svos.files import write_atomically
from s2svos_engines.errors import UserError

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
            raise UserError(f"{self.out} is a file, no folder; choose another --out.")
        listed = self._listed()
        earlier = self._facts()
        if earlier is not None and earlier["settings"] != _json(settings):
            raise UserError(
                f"{self.out} was prepared with other settings or sources; choose another --out, "
                f"or take it away with s2svos prepare --remove {self.out}."
            )
        if earlier is None and not listed and self.out.exists() and any(self.out.iterdir()):
            raise UserError(f"{self.out} is not empty; choose another --out.")
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
            raise UserError(f"{self.out} was not made by s2svos prepare; nothing was removed.")
        names, removed = self._listed(), 0
        if any(".." in PurePosixPath(name).parts or name.startswith("/") for name in names):
            raise UserError(f"{self.out / FILES} lists files outside; nothing was removed.")
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
            raise UserError(f"{path} was not written by s2svos prepare; move it away.") from error
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
