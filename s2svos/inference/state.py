"""The state of a run, kept beside its masks: what a run that was killed goes on from."""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

STATE = ".s2svos.state"
PORTION = 128  # frames after which a state may be kept; all calls have to be waited for there
_SECONDS = 30.0  # between two states
_FACTS = "s2svos"


@dataclass(frozen=True)
class RunState:
    """A run after some of its frames.

    Args:
        settings: JSON types; a run of others cannot go on from here.
        done: frames whose masks are written.
        objects: JSON types, of :class:`~s2svos.inference.objects.ObjectRecords`.
        stream: of :meth:`s2svos_engines.tracker.Stream.snapshot`.
    """

    settings: Mapping[str, Any]
    done: int
    objects: Mapping[str, Any]
    stream: Mapping[str, NDArray[np.generic]]

    def write(self, path: Path) -> None:
        """Write it under a temporary name and rename it.

        Raises:
            OSError: it cannot be written; what was there is as it was.
        """
        facts = {"settings": self.settings, "done": self.done, "objects": self.objects}
        text = np.frombuffer(json.dumps(facts).encode(), np.uint8)
        data = io.BytesIO()
        np.savez(data, allow_pickle=False, **{_FACTS: text, **self.stream})
        write_atomically(path, data.getvalue())

    @classmethod
    def read(cls, path: Path) -> RunState | None:
        """Read a state; None if there is none.

        Raises:
            UserError: the file is something else.
        """
        if not path.is_file():
            return None
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            facts = json.loads(arrays.pop(_FACTS).tobytes())
            return cls(dict(facts["settings"]), int(facts["done"]), dict(facts["objects"]), arrays)
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise UserError(
                f"{path} is no state of a run ({error})", "begin anew with --overwrite"
            ) from error


class Clock:
    """Says when the next state is due."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether it is time; if so, the next is due later."""
        if time.monotonic() < self._last + _SECONDS:
            return False
        self._last = time.monotonic()
        return True


def digest(array: NDArray[Any] | None) -> str | None:
    """Return the SHA-256 of an array's bytes; None for None."""
    return None if array is None else hashlib.sha256(array.tobytes()).hexdigest()
