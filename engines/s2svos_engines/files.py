"""Files that are whole as soon as they have their name.

The user's folder for what can be made again."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2svos_engines.errors import UserError


@contextmanager
def written_beside(path: Path) -> Iterator[Path]:
    """A place beside ``path``, ``<name>.part``, for a file that is renamed once it is written.

    A reader never sees half a file; if anything is raised, nothing is left of it and ``path`` is
    what it was.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Writes a file by way of :func:`written_beside`.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    with written_beside(path) as part:
        part.write_bytes(data)


def cache_folder() -> Path:
    """Where plans, timing caches and build logs are kept; made if missing, for this user alone.

    ``$XDG_CACHE_HOME/s2svos``, or ``~/.cache/s2svos``; on Windows ``%LOCALAPPDATA%\\s2svos``.

    Raises:
        UserError: it cannot be made.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "s2svos"
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The cache folder {folder} cannot be made ({error.strerror})",
            "set XDG_CACHE_HOME to a folder that can be written",
        ) from error
    return folder
