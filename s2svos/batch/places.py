"""Files here and elsewhere: paths, and addresses that fsspec opens (``s3://``, ``gs://``)."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from s2svos.extras import needs
from s2svos.video.address import address_name, is_address
from s2svos_engines.errors import UserError


def joined(place: str, name: str) -> str:
    """Return the place of a file or folder in another."""
    return f"{place.rstrip('/')}/{name}" if is_address(place) else str(Path(place, name))


@contextmanager
def _told(place: str) -> Iterator[None]:
    """Turn what file systems raise, of whatever type, into a sentence without secrets."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"{address_name(place)} cannot be reached ({type(error).__name__})",
            "check the address and the credentials in the environment",
        ) from error


def _opened(place: str) -> tuple[Any, str]:
    with needs("ray"):
        import fsspec
    found: tuple[Any, str] = fsspec.core.url_to_fs(place)
    return found


def fetched(place: str, folder: Path) -> Path:
    """Return a file that is here: the path itself, or a copy in ``folder``.

    Raises:
        UserError: it cannot be had.
    """
    if not is_address(place):
        return Path(place)
    target = folder / PurePosixPath(place.partition("?")[0]).name
    with _told(place):
        files, path = _opened(place)
        files.get(path, str(target), recursive=files.isdir(path))
    return target


def finished_run(place: str) -> dict[str, Any] | None:
    """Return what a run's ``run.json`` says if it is there and the run did all; else None.

    Raises:
        UserError: the place cannot be reached.
    """
    place = joined(place, "run.json")
    data = b""
    if is_address(place):
        with _told(place), suppress(FileNotFoundError):
            files, path = _opened(place)
            data = files.cat_file(path)
    else:
        with suppress(OSError):
            data = Path(place).read_bytes()
    try:
        run = json.loads(data)
    except ValueError:
        return None
    return run if isinstance(run, dict) and run.get("complete") is True else None


def store(folder: Path, place: str) -> None:
    """Copy a folder of results to an address, ``run.json`` last: it says that all is there.

    Raises:
        UserError: it cannot be written.
    """
    with _told(place):
        files, path = _opened(place)
        files.makedirs(path, exist_ok=True)
        names = sorted(folder.rglob("*"), key=lambda one: one.name == "run.json")
        for name in names:
            if name.is_file():
                target = f"{path.rstrip('/')}/{name.relative_to(folder).as_posix()}"
                files.makedirs(target.rpartition("/")[0], exist_ok=True)
                files.put_file(str(name), target)
    shutil.rmtree(folder)
