"""What OpenVINO has compiled, kept in the user's cache for the next process.

Compiling the graphs that a run begins with takes 0.5 s in fp32 and 0.9 s in int8 on two cores, to
read them back a third of that. With ``S2SVOS_CACHE=off`` nothing is kept and nothing read.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from threading import Thread
from typing import Any

from s2svos_engines.backends.openvino_library import ov
from s2svos_engines.cpu import cpu_flags
from s2svos_engines.errors import UserError
from s2svos_engines.files import cache_folder, write_atomically

WRITER = "s2svos-compiled-file"
"""Name of the threads that write files, for which Python waits before it ends."""

_MOST = 1 << 28  # bytes that are kept
_SUM = hashlib.sha256().digest_size


def compiled_folder() -> Path | None:
    """Return the folder of compiled graphs; None if they are not to be kept, or cannot be."""
    if os.environ.get("S2SVOS_CACHE") == "off":
        return None
    try:
        folder = cache_folder() / "openvino"
        folder.mkdir(0o700, exist_ok=True)
        return folder if _is_private(folder) else None
    except (UserError, OSError, RuntimeError):  # no home, or one that is read-only
        return None


class CompiledFiles:
    """Compiled graphs as files, each with its checksum.

    Args:
        core: that compiles.
        folder: of the files, to which nobody else can write; None for no cache.
    """

    def __init__(self, core: ov.Core, folder: Path | None) -> None:
        self._core, self._folder = core, folder
        self._machine = [ov.get_version(), sorted(cpu_flags())] if folder else []

    def compiled(
        self, key: tuple[Any, ...], settings: Mapping[str, Any], make: Callable[[], ov.Model]
    ) -> ov.CompiledModel:
        """Return a compiled graph, read back if it is there.

        Args:
            key: JSON types that tell this graph from all others.
            settings: of the compilation.
            make: makes the graph.
        """
        if self._folder is None:
            return self._core.compile_model(make(), "CPU", dict(settings))
        stated = [*key, sorted(settings.items()), *self._machine]
        name = hashlib.sha256(json.dumps(stated).encode()).hexdigest()
        path = self._folder / f"{name}.blob"
        if (data := self._read(path)) is not None:
            with suppress(RuntimeError):  # of a version that says it is this one and is not
                return self._core.import_model(data, "CPU", dict(settings))
        compiled = self._core.compile_model(make(), "CPU", dict(settings))
        Thread(target=self._write, args=(path, compiled), name=WRITER).start()
        return compiled

    def _read(self, path: Path) -> bytes | None:
        """Return a file's content if it is there, the user's, and what was written."""
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        content = data[_SUM:]
        return content if hashlib.sha256(content).digest() == data[:_SUM] else None

    def _write(self, path: Path, compiled: ov.CompiledModel) -> None:
        with suppress(OSError, RuntimeError):  # a cache is no result
            content = bytes(compiled.export_model().getbuffer())
            _make_room(path.parent, len(content))
            write_atomically(path, hashlib.sha256(content).digest() + content, shared=True)


def _is_private(folder: Path) -> bool:
    """Return whether nobody else can write to a folder, whose files are then the user's own."""
    if os.name == "nt":
        return True  # below the user's own profile
    stat = folder.stat()
    return stat.st_uid == os.geteuid() and not stat.st_mode & 0o022


def _make_room(folder: Path, size: int) -> None:
    """Remove the files that were used longest ago until ``size`` more bytes fit."""
    files = [(one, one.stat()) for one in folder.glob("*.blob")]
    left = _MOST - size - sum(stat.st_size for _, stat in files)
    for path, stat in sorted(files, key=lambda item: item[1].st_mtime):
        if left >= 0:
            return
        path.unlink(missing_ok=True)
        left += stat.st_size
