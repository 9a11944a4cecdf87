"""Files that are whole as soon as they have their name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
