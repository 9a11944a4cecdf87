"""The temporary folder, and what is said where it cannot be written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2svos_engines.errors import UserError


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that goes away at the end.

    Raises:
        UserError: there is no room for it.
    """
    with temporary_folder_errors():
        folder = tempfile.TemporaryDirectory(prefix="s2svos-")
    with folder as path:
        yield Path(path)


@contextmanager
def temporary_folder_errors() -> Iterator[None]:
    """Tell of a temporary folder that cannot be written.

    Raises:
        UserError: the block raised an OSError.
    """
    try:
        yield
    except OSError as error:
        raise UserError(
            f"The temporary folder cannot be written ({error.strerror or error})",
            "free space there, or set TMPDIR to a folder on another disk",
        ) from error
