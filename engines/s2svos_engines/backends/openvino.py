"""OpenVINO on the CPU."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.backends.openvino_graphs import OpenVinoGraphs
from s2svos_engines.backends.openvino_runner import OpenVinoRunner
from s2svos_engines.bundle import Bundle
from s2svos_engines.engine import Engine
from s2svos_engines.letterbox import NetworkFrame

_MAX_ENCODERS = 8  # that run at once, so that many cores do not mean many frames in memory


class OpenVinoEngine(Engine):
    """A call alone is run by all threads; the encoders of several calls run side by side.

    Of calls that are in flight together, and of the streams of one call, the encoders need no
    state: on a thread each they do not wait for each other, and a frame takes 55 ms of two cores'
    time instead of 65.

    Args:
        bundle: with the graphs.
        threads: processor threads of a step.
        precision: of the graphs.
        arithmetic: what floating point is computed in, ``f32``, or ``bf16`` where
            :func:`~s2svos_engines.backends.openvino_graphs.has_bf16`.
    """

    name = "openvino"

    def __init__(
        self, bundle: Bundle, *, threads: int, precision: str = "fp32", arithmetic: str = "f32"
    ) -> None:
        super().__init__(bundle, precision=precision)
        if arithmetic != "f32":
            self.name = f"{self.name} {arithmetic}"
        encoders = min(threads, _MAX_ENCODERS)
        # One more for each encoder at work: 28 ms a frame with 4 calls, 30 with 3, 33 with 2.
        self.max_in_flight = 2 * encoders if threads > 1 else 1
        self.graphs = OpenVinoGraphs(
            bundle.graphs(precision),
            self.contract,
            threads=threads,
            encoders=encoders,
            arithmetic=arithmetic,
        )

    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of objects that enter on ``frame``."""
        request = self.graphs.full("init", len(first_masks)).create_infer_request()
        results = request.infer(
            {self.contract.frame.name: frame, self.contract.first_masks.name: first_masks}
        )
        return [results[spec.name].copy() for spec in self.contract.init_outputs]

    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> OpenVinoRunner:
        """Return a runner that starts from a copy of ``states``."""
        return OpenVinoRunner(self, self.graphs, states, owners)
