"""What the cells of all engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Picture
from s2svos_engines.contract import BATCH, StepContract, TensorSpec, step_graph
from s2svos_engines.engine import States

Masks = NDArray[np.uint8]


class ResidentCell(ABC):
    """Knows which graph steps it, and how large its tensors are.

    Args:
        contract: of the graphs.
        states: of N objects.
        owners: int64 [N], the stream of each object, for a cell of many streams.
    """

    def __init__(
        self, contract: StepContract, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        self._graph = "step" if owners is None else BATCH
        self._objects = len(states[0])
        self._streams = 1 if owners is None else int(owners.max()) + 1
        self._size = contract.height, contract.width
        self._states = contract.interface(self._graph).inputs[-len(states) :]

    def step(self, frame: Picture) -> Masks:
        """Probabilities times 255, uint8 [N, H, W], valid until the next step."""
        masks: Masks = self.steps([frame])[0]
        return masks

    def steps(self, frames: Sequence[Picture]) -> Masks:
        """The same for several frames: uint8 [T, N, H, W], or [N, H, W] of many streams."""
        return self.begin(frames)()

    def begin(self, frames: Sequence[Picture]) -> Callable[[], Masks]:
        """Starts a call; what returns waits for its masks, which are those of ``steps``."""
        if self._graph == BATCH:
            return self._begin(BATCH, frames)
        masks = self._begin(step_graph(len(frames)), frames)
        return lambda: masks().reshape(len(frames), self._objects, *self._size)

    @abstractmethod
    def _begin(self, graph: str, frames: Sequence[Picture]) -> Callable[[], Masks]:
        """Starts to advance the state by one call of a graph."""

    def _sizes(self, spec: TensorSpec) -> tuple[int, ...]:
        return spec.sizes(objects=self._objects, streams=self._streams)


class HostCell(ResidentCell):
    """Of an engine on the processor, whose calls are done when they return."""

    def _begin(self, graph: str, frames: Sequence[Picture]) -> Callable[[], Masks]:
        masks = self._run(graph, frames)
        return lambda: masks

    @abstractmethod
    def _run(self, graph: str, frames: Sequence[Picture]) -> Masks:
        """Advances the state by one call of a graph."""


def fill(pictures: NDArray[np.uint8], frames: Sequence[Picture]) -> None:
    """Copies frames of the host's memory into a graph's input, uint8 [H, W, 3] or [T, H, W, 3]."""
    places = pictures.reshape(-1, *pictures.shape[-3:])
    for place, frame in zip(places, frames, strict=True):
        place[...] = frame
