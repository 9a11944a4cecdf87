"""Several streams that are stepped together: in one call, or on a thread each."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np

from s2svos_engines.arrays import Masks, States
from s2svos_engines.engine import Engine
from s2svos_engines.letterbox import NetworkFrame
from s2svos_engines.states import of_each


class StreamsRunner(ABC):
    """The states of several streams, for as long as they stay the same."""

    def __init__(self, streams: int) -> None:
        self._streams = streams

    @property
    def slots(self) -> list[Slot]:
        """The slots of its streams, in order."""
        # Made anew: with slots of its own a batch that nobody needs would wait for Python's cycle
        # collector, which counts objects and not their megabytes.
        return [Slot(self, number) for number in range(self._streams)]

    @abstractmethod
    def step(self, frames: Sequence[NetworkFrame]) -> list[Masks]:
        """Advance all streams by a frame each, uint8 [H, W, 3].

        Returns:
            The masks of each stream, uint8 [N, H, W], valid until the next step.
        """

    @abstractmethod
    def states(self, slot: int) -> States:
        """Return the states of the stream in a slot; valid until the next step."""


class BatchRunner(StreamsRunner):
    """Streams whose objects are in one runner, of the ``batch`` graph.

    Args:
        engine: that ``batches``.
        members: the states of each stream, of at least one object.
    """

    def __init__(self, engine: Engine, members: Sequence[States]) -> None:
        super().__init__(len(members))
        self._contract = engine.contract
        counts = [len(states[0]) for states in members]
        self._ends = np.cumsum(counts)[:-1]
        each = (of_each(self._contract, states) for states in members)
        states = [
            np.stack(parts) if spec.shared else np.concatenate(parts)
            for spec, *parts in zip(self._contract.states, *each, strict=True)
        ]
        self._runner = engine.runner(states, np.repeat(np.arange(len(members)), counts))

    def step(self, frames: Sequence[NetworkFrame]) -> list[Masks]:
        """Advance all streams in one call."""
        return np.split(self._runner.steps(frames), self._ends)

    def states(self, slot: int) -> States:
        """Return a stream's part of the states."""
        return [
            state[slot] if spec.shared else np.split(state, self._ends)[slot]
            for spec, state in zip(self._contract.states, self._runner.states(), strict=True)
        ]


class ParallelRunner(StreamsRunner):
    """Streams that are stepped at the same time, each on one thread.

    On a processor a thread that shares its step with none does more of it than one of two that
    wait for each other at every layer. 8 streams on two cores with AVX-512, in two runs, by the
    time in turn: OpenVINO fp32 1.00 and 1.03 x (in one call 1.29), bf16 0.63 and 0.89 (0.88, 1.05),
    int8 0.67 and 0.83 (1.01, 0.99); ONNX Runtime fp32 0.78 and 0.80 (1.02), int8 0.77 and 0.79.

    Args:
        engine: whose runners run at the same time, see :meth:`Engine.parallel`.
        members: the states of each stream, of at least one object.
        threads: that step them.
    """

    def __init__(self, engine: Engine, members: Sequence[States], *, threads: int) -> None:
        super().__init__(len(members))
        self._runners = [engine.runner(states) for states in members]
        self._threads = threads

    def step(self, frames: Sequence[NetworkFrame]) -> list[Masks]:
        """Advance all streams, as many at a time as there are threads."""
        pairs = zip(self._runners, frames, strict=True)
        return list(_pool(self._threads).map(lambda pair: pair[0].step(pair[1]), pairs))

    def states(self, slot: int) -> States:
        """Return the states of a stream's own runner."""
        return self._runners[slot].states()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "s2svos-streams")


class Slot(NamedTuple):
    """A stream's place among several, who have its state."""

    batch: StreamsRunner
    number: int

    def states(self) -> States:
        """Return the stream's states; valid until the next step of the batch."""
        return self.batch.states(self.number)


def together(engine: Engine, members: Sequence[States]) -> StreamsRunner:
    """Return what steps several streams together.

    Args:
        engine: of the streams, which has a ``parallel`` one or ``batches``.
        members: the states of each stream, of at least one object.
    """
    if engine.parallel:
        return ParallelRunner(engine.parallel, members, threads=engine.threads)
    return BatchRunner(engine, members)
