"""Files that are whole as soon as they have their name."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from s2svos_engines.errors import UserError


def is_plain_name(name: str) -> bool:
    """Return whether a name from a file of others is that of one file or folder.

    Such a name leads nowhere else when it is joined to a path, on Windows either.
    """
    return name not in ("", ".", "..") and not {*"/\\:\0"} & {*name} and len(name) < 200


def need_regular_file(path: Path, what: str = "") -> None:
    """Refuse a path that is no file which holds still, before anything waits for it.

    Args:
        path: to be read, maybe more than once.
        what: it is, as ``The mask``, for the sentence.

    Raises:
        FileNotFoundError: there is nothing; each caller says best what to do about it.
        UserError: it is a folder, a pipe, a device, or nobody is let in.
    """
    name = f"{what} {path}".strip()
    try:
        mode = path.stat().st_mode
        readable = os.access(path, os.R_OK)
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{name} cannot be read ({reason})", "check its path") from error
    if stat.S_ISDIR(mode):
        raise UserError(f"{name} is a folder", "name a file")
    if not stat.S_ISREG(mode):
        kind = "a pipe" if stat.S_ISFIFO(mode) else "a device or socket"
        raise UserError(f"{name} is {kind}, which can be read only once", "save it as a file first")
    if not readable:
        raise UserError(f"{name} cannot be read (permission is denied)", "change its permissions")


@contextmanager
def written_beside(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Give a place beside ``path``, ``<name>.part``, for a file that is renamed once it is written.

    A reader never sees half a file; if anything is raised, nothing is left of it and ``path`` is
    what it was.

    Args:
        path: of the file.
        shared: other processes may write the same file at the same time, as one in the cache: the
            place beside it is this process's own.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part" if shared else f"{path.name}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes, *, shared: bool = False) -> None:
    """Write a file by way of :func:`written_beside`.

    Raises:
        OSError: it cannot be written; nothing is left of it.
    """
    with written_beside(path, shared=shared) as part:
        part.write_bytes(data)


@contextmanager
def disk_errors(
    path: Path,
    *,
    again: str = "run again with --overwrite",
    elsewhere: str = "choose another --out",
) -> Iterator[None]:
    """Turn an OSError into a sentence that says why ``path`` could not be written.

    Args:
        path: of the file or folder.
        again: what to do once there is space on the disk.
        elsewhere: what to do if this place cannot be written at all.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            reason, remedy = "the disk is full", f"free some space and {again}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason, remedy = "permission is denied", elsewhere
        else:
            reason, remedy = error.strerror or str(error), elsewhere
        raise UserError(f"{path} cannot be written: {reason}", remedy) from error


def cache_folder() -> Path:
    """Return the user's folder for plans, timing caches and build logs, made if missing.

    ``$XDG_CACHE_HOME/s2svos``, or ``~/.cache/s2svos``; on Windows ``%LOCALAPPDATA%\\s2svos``. It is
    for this user alone.

    Raises:
        UserError: it cannot be made.
    """
    name = "LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME"
    base = os.environ.get(name)
    folder = (Path(base) if base else Path.home() / ".cache") / "s2svos"
    try:
        folder.mkdir(0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"The cache folder {folder} cannot be made ({error.strerror})",
            f"set {name} to a folder that can be written",
        ) from error
    return folder
