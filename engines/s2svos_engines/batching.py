"""Many streams in one call of the network."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Frame, Picture
from s2svos_engines.contract import StepContract
from s2svos_engines.engine import Engine, States

if TYPE_CHECKING:
    from s2svos_engines.tracker import Labels, Stream, Tracker


class Batch:
    """The objects of several streams in one cell, for as long as the streams stay the same.

    Args:
        engine: that ``batches``.
        contract: of its graphs.
        members: the states of each stream, of at least one object.
    """

    def __init__(self, engine: Engine, contract: StepContract, members: Sequence[States]) -> None:
        self._contract = contract
        counts = [len(states[0]) for states in members]
        self._ends = np.cumsum(counts)[:-1]
        states = [
            np.stack(parts) if spec.shared else np.concatenate(parts)
            for spec, *parts in zip(contract.states, *members, strict=True)
        ]
        self._cell = engine.cell(states, np.repeat(np.arange(len(members)), counts))

    @property
    def seats(self) -> list[Seat]:
        """The places of its streams, in order."""
        # Made anew: with seats of its own a batch that nobody needs would wait for Python's cycle
        # collector, which counts objects and not their megabytes.
        return [Seat(self, number) for number in range(len(self._ends) + 1)]

    def step(self, frames: Sequence[Picture]) -> list[NDArray[np.uint8]]:
        """A frame of each stream, uint8 [H, W, 3], to its probabilities, uint8 [N, H, W].

        Valid until the next step.
        """
        return np.split(self._cell.steps(frames), self._ends)

    def states(self, index: int) -> States:
        """The states of a stream; valid until the next step."""
        return [
            state[index] if spec.shared else np.split(state, self._ends)[index]
            for spec, state in zip(self._contract.states, self._cell.states(), strict=True)
        ]


class Seat(NamedTuple):
    """A stream's place in a batch, where its state is."""

    batch: Batch
    number: int

    def states(self) -> States:
        """The stream's states; valid until the next step of the batch."""
        return self.batch.states(self.number)


class Gatherer:
    """Collects the frames of many streams and steps those together that come together.

    For a server: each of its connections submits its frames from a thread of its own, and waits
    for the result. A stream that is late holds the others up no longer than the patience.

    Args:
        tracker: of the streams.
        patience: seconds that the first frame of a call waits for those of other streams.
        most: streams in a call.
    """

    def __init__(self, tracker: Tracker, *, patience: float = 0.005, most: int = 16) -> None:
        self._tracker, self._patience, self._most = tracker, patience, most
        self._waiting: SimpleQueue[_Request | None] = SimpleQueue()
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def submit(self, stream: Stream, frame: Frame) -> Future[Labels]:
        """Hands in a stream's next frame, uint8 [H, W, 3]; it is stepped in its turn.

        Returns:
            What :meth:`Stream.step` returns or raises; a frame that is cancelled in time is left
            out.

        Raises:
            RuntimeError: the gatherer is closed.
        """
        if not self._thread.is_alive():
            raise RuntimeError("the gatherer is closed")
        done: Future[Labels] = Future()
        self._waiting.put(_Request(stream, frame, done))
        return done

    def close(self) -> None:
        """Steps what was submitted and ends."""
        self._waiting.put(None)
        self._thread.join()

    def _run(self) -> None:
        held: list[_Request] = []  # second frames of a stream, which wait for the next call
        while (first := held.pop(0) if held else self._waiting.get()) is not None:
            call, held = self._gather([first, *held])
            self._step(call)

    def _gather(self, held: Sequence[_Request]) -> tuple[list[_Request], list[_Request]]:
        """The requests of one call, one a stream, and those that came too early."""
        call: dict[Stream, _Request] = {}
        early: list[_Request] = []
        for request in held:
            self._sort(request, call, early)
        until = time.monotonic() + self._patience
        while len(call) < self._most:
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
        if request.stream in call or len(call) == self._most:
            early.append(request)
        else:
            call[request.stream] = request

    def _step(self, call: Sequence[_Request]) -> None:
        right = []
        for one in call:
            if not one.done.set_running_or_notify_cancel():
                continue
            try:
                one.stream.check(one.frame)
                right.append(one)
            except Exception as error:  # whose fault it is shall know, and nobody else
                one.done.set_exception(error)
        try:
            found = self._tracker.step_many({one.stream: one.frame for one in right})
        except Exception as error:  # of whatever type the engine's library has; all wait for it
            for one in right:
                one.done.set_exception(error)
            return
        for one in right:
            one.done.set_result(found[one.stream])


class _Request(NamedTuple):
    stream: Stream
    frame: Frame
    done: Future[Labels]
