"""What the cells of all engines have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.contract import BATCH, StepContract, TensorSpec, step_graph
from s2svos_engines.engine import States


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
        self._states = contract.interface(self._graph).inputs[-len(states) :]

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Probabilities times 255, uint8 [N, H, W], valid until the next step."""
        return self._run(self._graph, frame)

    def steps(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Probabilities times 255, uint8 [T, N, H, W], valid until the next step."""
        return self._run(step_graph(len(frames)), frames)

    @abstractmethod
    def _run(self, graph: str, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Advances the state by one call of a graph."""

    def _sizes(self, spec: TensorSpec) -> tuple[int, ...]:
        return spec.sizes(objects=self._objects, streams=self._streams)
