"""Ctrl-C, SIGTERM and SIGHUP: the first is a request to stop, the second ends the process."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, ClassVar, Self

STOP_SIGNALS = tuple(
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
    if hasattr(signal, name)
)
ECHO = 0.25  # seconds in which several signals are one: a terminal that is closed sends two


class Interrupt:
    """Notes the first of the signals, or raises it as KeyboardInterrupt; the second has its way.

    Signals that are ignored stay so, as under nohup. Of several that are open, one within the
    other, the innermost decides, and all know of the first signal.

    Worker processes that are forked meanwhile inherit this, so Ctrl-C, which reaches them too, does
    not end them in the middle of a clip.

    Args:
        raises: the first raises KeyboardInterrupt, and the second ends the process at once. Else
            it is noted, and the second has the effect that it would have without this.

    Attributes:
        number: of the first signal; None if there was none.
    """

    _open: ClassVar[list[Interrupt]] = []

    def __init__(self, *, raises: bool = False) -> None:
        self.number: int | None = None
        self._raises = raises
        self._at = 0.0
        self._before: dict[int, Any] = {}

    @property
    def wanted(self) -> bool:
        """Whether there was a signal."""
        return self.number is not None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # others may set no handler
            self._open.append(self)
            for number in STOP_SIGNALS:
                # None is a handler that is not Python's, and cannot be restored.
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        now, outermost = time.monotonic(), self._open[0]
        if (earlier := next((one for one in self._open if one.wanted), None)) is not None:
            if now - earlier._at > ECHO:
                end = signal.SIG_DFL if outermost._raises else outermost._before[number]
                signal.signal(number, end)
                signal.raise_signal(number)
            return
        for one in self._open:
            one.number, one._at = number, now
        if self._raises:
            raise KeyboardInterrupt

    def __exit__(self, *error: object) -> None:
        while self._before:
            signal.signal(*self._before.popitem())
        if self in self._open:
            self._open.remove(self)


def ignore_stop_signals() -> None:
    """Leave the signals, which reach all processes of a group, to the one that this works for."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
