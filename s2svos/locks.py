"""Locks, by which two runs at once never write into the same place."""

from __future__ import annotations

import errno
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors

try:
    import fcntl
except ModuleNotFoundError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = ".s2svos.lock"
"""Name of a folder's lock, which is there as long as a run has the folder, or was killed in it."""

_NO_FLOCK = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # of a file system
_NAMELESS = 10.0  # seconds that an owner takes at most to write its name
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)

_held: set[int] = set()


def _close_held() -> None:
    """Close the locks of the process that was forked, which would be held as long as this lives."""
    while _held:
        os.close(_held.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_held)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Keep a folder for this run alone; it is made if missing, and removed again if left empty.

    Raises:
        UserError: another run has it, it is a file, or it cannot be written.
    """
    with disk_errors(folder):
        existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise UserError(f"{existing} is a file, no folder", "choose another --out")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with _locked(folder / LOCK, folder):
            yield
    finally:
        for path in missing:
            with suppress(OSError):  # it holds something
                path.rmdir()


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Keep the name of a file in an existing folder for this run alone.

    Raises:
        UserError: another run is going to write it, or its folder cannot be written.
    """
    with _locked(path.with_name(f".{path.name}.lock"), path):
        yield


def content(folder: Path) -> list[Path]:
    """Return what a folder holds besides its lock."""
    return [path for path in folder.iterdir() if path.name != LOCK]


@contextmanager
def _locked(lock: Path, place: Path) -> Iterator[None]:
    with disk_errors(place):
        descriptor = _take(lock, place)
    _held.add(descriptor)
    try:
        with disk_errors(place):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(_ourselves()).encode())
        yield
    finally:
        if os.name == "nt":  # where an open file keeps its name
            os.close(descriptor)
        with suppress(OSError):
            lock.unlink()
        if os.name != "nt":
            os.close(descriptor)
        _held.discard(descriptor)


def _take(lock: Path, place: Path) -> int:
    """Open the lock once no other run has it; what one that was killed left is taken over."""
    while True:
        if lock.parent == place:
            place.mkdir(parents=True, exist_ok=True)
        try:
            descriptor, made = os.open(lock, _FLAGS | os.O_CREAT | os.O_EXCL, 0o666), True
        except FileExistsError:
            try:
                descriptor, made = os.open(lock, _FLAGS), False
            except FileNotFoundError:  # its owner ended just now
                continue
        except FileNotFoundError:
            if lock.parent != place:
                raise
            continue  # the owner's folder went with it
        try:
            if not _is_ours(descriptor, lock, made=made):
                raise _taken(lock, place)
            if _is_at(descriptor, lock):
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_ours(descriptor: int, lock: Path, *, made: bool) -> bool:
    """Return whether no living run has the lock; a dead one's file is removed without flock."""
    if fcntl:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno not in _NO_FLOCK:
                return False
    if not made:
        if not _is_gone(lock):
            return False
        try:
            lock.unlink(missing_ok=True)
        except PermissionError:  # Windows: its owner has it open
            return False
    return True


def _is_at(descriptor: int, lock: Path) -> bool:
    """Return whether the lock still has its name, which its owner took away if it ended."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(lock))
    except FileNotFoundError:
        return False


def _ourselves() -> dict[str, Any]:
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _owner(lock: Path) -> dict[str, Any] | None:
    """Return what :func:`_ourselves` was in the owner's process; None where that is not told."""
    try:
        owner = json.loads(lock.read_bytes())
        return {"pid": int(owner["pid"]), "host": str(owner["host"]), "since": str(owner["since"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _is_gone(lock: Path) -> bool:
    """Return whether the process that made a lock is known to have ended, by the lock's text."""
    owner = _owner(lock)
    if owner is None:
        try:
            return time.time() - lock.stat().st_mtime > _NAMELESS
        except FileNotFoundError:
            return True
    if os.name == "nt":
        return True  # if it is not, its file cannot be removed
    if owner["host"] != socket.gethostname() or owner["pid"] <= 0:
        return False
    try:
        os.kill(owner["pid"], 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False


def _taken(lock: Path, place: Path) -> UserError:
    owner = _owner(lock)
    who = f" (process {owner['pid']} on {owner['host']}, since {owner['since']})" if owner else ""
    return UserError(
        f"{place} is in use by another run{who}",
        f"wait until that has ended, or choose another place; if it is no more, remove {lock}",
    )
