"""Threads that hand each other items through bounded queues, and fail together.

A source runs ahead of the caller, a sink behind it. An error upstream arrives after the items that
came before it; an error in a sink arrives at the next ``put`` or ``close``. Nobody waits for a
thread that has given up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from threading import Condition, Thread
from typing import Generic, TypeVar

T = TypeVar("T")
SIZE = 4  # items: enough to ride out a slow frame, and little memory


class _Abandoned(Exception):
    """A signal between threads: the other end takes no more items."""


class _Channel(Generic[T]):
    """A bounded queue whose ends learn of each other's going."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._items: deque[T] = deque()
        self._changed = Condition()
        self._ended = False
        self._abandoned = False

    def put(self, item: T) -> None:
        """Waits for room; raises _Abandoned once nobody takes items."""
        with self._changed:
            self._changed.wait_for(lambda: self._abandoned or len(self._items) < self._size)
            if self._abandoned:
                raise _Abandoned
            self._items.append(item)
            self._changed.notify_all()

    def end(self) -> None:
        """No further items follow."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """No further items are taken; those that wait are dropped."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._ended or self._abandoned)
                if not self._items:
                    return
                item = self._items.popleft()
                self._changed.notify_all()
            yield item


class Source(Generic[T]):
    """Iterates in a thread of its own, ahead of the caller.

    Args:
        items: what to iterate.
        size: items that may wait.

    Attributes:
        seconds: time spent on making items.
    """

    def __init__(self, items: Iterable[T], *, size: int = SIZE) -> None:
        self.seconds = 0.0
        self._channel: _Channel[T] = _Channel(size)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, args=(items,), daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[T]:
        """Items in order; then the error that ended them, if one did."""
        yield from self._channel
        if self._error:
            raise self._error

    def stop(self) -> None:
        """Drops what waits and ends the thread after its present item."""
        self._channel.abandon()
        self._thread.join()

    def _run(self, items: Iterable[T]) -> None:
        iterator = iter(items)
        try:
            while True:
                began = time.perf_counter()
                try:
                    item = next(iterator)
                except StopIteration:
                    return
                finally:
                    self.seconds += time.perf_counter() - began
                self._channel.put(item)
        except _Abandoned:
            pass
        except BaseException as error:  # whatever it is, the caller has to see it
            self._error = error
        finally:
            self._channel.end()


class Sink(Generic[T]):
    """Works on items in a thread of its own, behind the caller.

    Args:
        work: called with each item.
        size: items that may wait.

    Attributes:
        seconds: time spent in ``work``.
        done: items that ``work`` finished.
    """

    def __init__(self, work: Callable[[T], None], *, size: int = SIZE) -> None:
        self.seconds = 0.0
        self.done = 0
        self._work = work
        self._channel: _Channel[T] = _Channel(size)
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, item: T) -> None:
        """Hands on an item; waits while too many wait.

        Raises:
            BaseException: what ``work`` raised on an earlier one.
        """
        try:
            self._channel.put(item)
        except _Abandoned:
            assert self._error is not None
            raise self._error from None

    def drain(self) -> BaseException | None:
        """Works off what waits and ends the thread; gives what ``work`` raised, if it did."""
        self._channel.end()
        self._thread.join()
        return self._error

    def _run(self) -> None:
        try:
            for item in self._channel:
                began = time.perf_counter()
                self._work(item)
                self.seconds += time.perf_counter() - began
                self.done += 1
        except BaseException as error:  # whatever it is, the caller has to see it
            self._error = error
            self._channel.abandon()
