"""The objects of several streams in one runner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from s2svos_engines.arrays import Masks, States
from s2svos_engines.engine import Engine
from s2svos_engines.letterbox import NetworkFrame


class BatchRunner:
    """A runner of many streams, for as long as they stay the same.

    Args:
        engine: that ``batches``.
        members: the states of each stream, of at least one object.
    """

    def __init__(self, engine: Engine, members: Sequence[States]) -> None:
        self._contract = engine.contract
        counts = [len(states[0]) for states in members]
        self._ends = np.cumsum(counts)[:-1]
        states = [
            np.stack(parts) if spec.shared else np.concatenate(parts)
            for spec, *parts in zip(self._contract.states, *members, strict=True)
        ]
        self._runner = engine.runner(states, np.repeat(np.arange(len(members)), counts))

    @property
    def slots(self) -> list[Slot]:
        """The slots of its streams, in order."""
        # Made anew: with slots of its own a batch that nobody needs would wait for Python's cycle
        # collector, which counts objects and not their megabytes.
        return [Slot(self, number) for number in range(len(self._ends) + 1)]

    def step(self, frames: Sequence[NetworkFrame]) -> list[Masks]:
        """Advance all streams by a frame each, uint8 [H, W, 3].

        Returns:
            The masks of each stream, uint8 [N, H, W], valid until the next step.
        """
        return np.split(self._runner.steps(frames), self._ends)

    def states(self, slot: int) -> States:
        """Return the states of the stream in a slot; valid until the next step."""
        return [
            state[slot] if spec.shared else np.split(state, self._ends)[slot]
            for spec, state in zip(self._contract.states, self._runner.states(), strict=True)
        ]


class Slot(NamedTuple):
    """A stream's place in a batch, which has its state."""

    batch: BatchRunner
    number: int

    def states(self) -> States:
        """Return the stream's states; valid until the next step of the batch."""
        return self.batch.states(self.number)
