"""Ctrl-C and SIGTERM as a request to stop after the present step."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, Self


class Interrupt:
    """Notes the first SIGINT or SIGTERM; the second ends the program as it would without.

    Worker processes that are forked meanwhile inherit this, so Ctrl-C, which reaches them too, does
    not end them in the middle of a clip.

    Attributes:
        wanted: whether there was one.
    """

    def __init__(self) -> None:
        self.wanted = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others may set no handler
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.wanted = True
        self._restore()

    def _restore(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def __exit__(self, *error: object) -> None:
        self._restore()
