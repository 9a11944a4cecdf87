"""Frames of many streams that come at the same time, stepped together."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple, Self

from s2svos_engines.arrays import AnyFrame, Labels
from s2svos_engines.tracker import Stream, Tracker


class DynamicBatcher:
    """Collects the frames of many streams and steps those together that come together.

    For a server: each of its connections submits its frames from a thread of its own, and waits
    for the result. A stream that is late delays the others by no more than ``max_delay``.

    Args:
        tracker: of the streams.
        max_delay: seconds that the first frame of a call waits for those of other streams.
        max_streams: streams in a call.
    """

    def __init__(
        self, tracker: Tracker, *, max_delay: float = 0.005, max_streams: int = 16
    ) -> None:
        self._tracker, self._max_delay, self._max_streams = tracker, max_delay, max_streams
        self._waiting: SimpleQueue[_Request | None] = SimpleQueue()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, stream: Stream, frame: AnyFrame) -> Future[Labels]:
        """Hand in a stream's next frame, uint8 [H, W, 3]; it is stepped in its turn.

        Returns:
            What :meth:`Stream.step` returns or raises; a frame that is cancelled in time is left
            out.

        Raises:
            RuntimeError: the batcher is closed.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the batcher is closed")
        done: Future[Labels] = Future()
        self._waiting.put(_Request(stream, frame, done))
        return done

    def close(self) -> None:
        """Step what was submitted and end."""
        self._waiting.put(None)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self) -> None:
        held: list[_Request] = []  # second frames of a stream, which wait for the next call
        while (first := held.pop(0) if held else self._waiting.get()) is not None:
            call, held = self._collect([first, *held])
            self._step(call)

    def _collect(self, held: Sequence[_Request]) -> tuple[list[_Request], list[_Request]]:
        """Return the requests of one call, one a stream, and those that came too early."""
        call: dict[Stream, _Request] = {}
        early: list[_Request] = []
        for request in held:
            self._sort(request, call, early)
        until = time.monotonic() + self._max_delay
        while len(call) < self._max_streams:
            try:
                arrived = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except Empty:
                break
            if arrived is None:
                self._waiting.put(None)
                break
            self._sort(arrived, call, early)
        return list(call.values()), early

    def _sort(self, request: _Request, call: dict[Stream, _Request], early: list[_Request]) -> None:
        if request.stream in call or len(call) == self._max_streams:
            early.append(request)
        else:
            call[request.stream] = request

    def _step(self, call: Sequence[_Request]) -> None:
        valid = []
        for request in call:
            if not request.done.set_running_or_notify_cancel():
                continue
            try:
                request.stream.check(request.frame)
                valid.append(request)
            except Exception as error:  # for the stream whose fault it is, and no other
                request.done.set_exception(error)
        try:
            labels = self._tracker.step_many({one.stream: one.frame for one in valid})
        except Exception as error:  # of whatever type the engine's library has; all wait for it
            for request in valid:
                request.done.set_exception(error)
            return
        for request in valid:
            request.done.set_result(labels[request.stream])


class _Request(NamedTuple):
    stream: Stream
    frame: AnyFrame
    done: Future[Labels]
