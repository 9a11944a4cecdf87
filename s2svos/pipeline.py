"""Threads that hand each other items through bounded queues, and fail together.

A source runs ahead of the caller, a sink behind it. An error upstream arrives after the items that
came before it; an error in a sink arrives at the next ``put`` or ``drain``. No thread waits for
one that has given up, nor for ever for one that is silent.
"""

from __future__ import annotations

import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from threading import Condition, Thread
from typing import Generic, TypeVar

from s2svos_engines.errors import UserError, is_out_of_memory


class EndedEarly(UserError):
    """An input stopped before its end; what was done up to there is kept."""

    exit_code = 1


class OutputClosed(UserError):
    """The program that read the results has gone."""

    exit_code = 1


class StageFailed(UserError):
    """A thread of the run died of an error that nobody foresaw; that error is the cause."""

    exit_code = 1

    @classmethod
    def of(cls, doing: str, error: BaseException) -> StageFailed:
        """Describe an error that a thread died of.

        Args:
            doing: what the thread did, as ``Reading clip.mp4``.
            error: what it died of.
        """
        place = traceback.extract_tb(error.__traceback__)[-1]
        # Libraries tell of their own sources in many lines.
        what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(": ")
        problem = f"{doing} failed with {what} ({Path(place.filename).name}:{place.lineno})"
        if is_out_of_memory(error):
            failed = cls(problem, "free some memory, or take smaller frames")
        else:
            failed = cls(f"{problem}.")
        failed.__cause__ = error
        return failed


def stalled(name: str, seconds: float) -> EndedEarly:
    """Return the error for an input that gives nothing for too long."""
    return EndedEarly(
        f"{name} has given no frame for {seconds:g} s",
        "check that it still sends, or allow it longer with --timeout",
    )


T = TypeVar("T")
QUEUE_SIZE = 4  # items: enough to ride out a slow frame, and little memory
_LAST_ITEM = 1.0  # seconds for a source to end; one that hangs in a system call ends with Python


class _Channel(Generic[T]):
    """A bounded queue whose ends notice when the other is gone.

    Args:
        size: items that may wait.
        newest: ``put`` never waits: an item replaces the one that waits, unless that is the very
            first.

    Attributes:
        dropped: items that were replaced.
    """

    def __init__(self, size: int, *, newest: bool = False) -> None:
        self.dropped = 0
        self._size = size
        self._newest = newest
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._begun = False
        self._ended = False
        self._abandoned = False

    def put(self, item: T) -> bool:
        """Wait for room and put an item; return False once nobody takes items."""
        with self._changed:
            if self._newest:
                if len(self._items) > (0 if self._begun else 1):
                    self._items.pop()
                    self.dropped += 1
            else:
                self._changed.wait_for(lambda: self._abandoned or len(self._items) < self._size)
            if not self._abandoned:
                self._items.append(item)
                self._changed.notify_all()
            return not self._abandoned

    def end(self) -> None:
        """End the queue: no further items follow."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """Take no further items, and drop those that wait."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def take(self, timeout: float | None = None) -> Iterator[T]:
        """Yield items until there are no more; raise TimeoutError if one takes too long."""
        while True:
            with self._changed:
                if not self._changed.wait_for(
                    lambda: self._items or self._ended or self._abandoned, timeout
                ):
                    raise TimeoutError
                if not self._items:
                    return
                self._begun = True
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class Source(Generic[T]):
    """Iterates in a thread of its own, ahead of the caller.

    Args:
        items: what to iterate.
        name: of where they come from, for messages.
        size: items that may wait.
        newest: for items that do not wait, as a camera's: only the newest is kept for the caller,
            and the very first.
        timeout: seconds without an item after which the source counts as stalled; None for ever.

    Attributes:
        seconds: time spent on making items, or on waiting for them to come.
    """

    def __init__(
        self,
        items: Iterable[T],
        *,
        name: str,
        size: int = QUEUE_SIZE,
        newest: bool = False,
        timeout: float | None = None,
    ) -> None:
        self.seconds = 0.0
        self._name = name
        self._timeout = timeout
        self._channel: _Channel[T] = _Channel(size, newest=newest)
        self._error: UserError | None = None
        self._thread = Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Items that were replaced by a newer one before the caller took them."""
        return self._channel.dropped

    def __iter__(self) -> Iterator[T]:
        """Items in order; then the error that ended them, if one did.

        Raises:
            StageFailed: making an item failed unforeseen.
            EndedEarly: there was none for ``timeout`` seconds.
            UserError: what else making an item raised.
        """
        try:
            yield from self._channel.take(self._timeout)
        except TimeoutError:
            assert self._timeout is not None
            raise stalled(self._name, self._timeout) from None
        if self._error:
            raise self._error

    def stop(self) -> None:
        """Drop the items that wait and let the thread end after its present one."""
        self._channel.abandon()
        self._thread.join(_LAST_ITEM)

    def _run(self, items: Iterable[T]) -> None:
        try:
            iterator = iter(items)
            while True:
                began = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self.seconds += time.perf_counter() - began
                if not self._channel.put(item):
                    return
        except UserError as error:
            self._error = error
        except BaseException as error:  # whatever it is, the caller has to see it
            self._error = StageFailed.of(f"Reading {self._name}", error)
        finally:
            self._channel.end()


class Sink(Generic[T]):
    """Works on items in a thread of its own, behind the caller.

    Args:
        work: called with each item.
        name: of what it writes, for messages.
        size: items that may wait.

    Attributes:
        seconds: time spent in ``work``.
        done: items that ``work`` finished.
    """

    def __init__(self, work: Callable[[T], None], *, name: str, size: int = QUEUE_SIZE) -> None:
        self.seconds = 0.0
        self.done = 0
        self._work = work
        self._name = name
        self._channel: _Channel[T] = _Channel(size)
        self._error: UserError | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hand on an item; waits while too many wait.

        Raises:
            StageFailed: ``work`` failed unforeseen on an earlier one.
            UserError: what else ``work`` raised.
        """
        if not self._channel.put(item):
            assert self._error is not None
            raise self._error

    def drain(self) -> UserError | None:
        """Work off what waits and end the thread; return the error that ``put`` would raise."""
        self._channel.end()
        self._thread.join()
        return self._error

    def _run(self) -> None:
        try:
            for item in self._channel.take():
                began = time.perf_counter()
                self._work(item)
                self.seconds += time.perf_counter() - began
                self.done += 1
        except UserError as error:
            self._fail(error)
        except BaseException as error:  # whatever it is, the caller has to see it
            self._fail(StageFailed.of(f"Writing {self._name}", error))

    def _fail(self, error: UserError) -> None:
        self._error = error
        self._channel.abandon()
