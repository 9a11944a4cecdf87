"""OpenVINO on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cached_property
from threading import Thread

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.backends.openvino_graphs import OpenVinoGraphs, has_bf16
from s2svos_engines.backends.openvino_profile import profile_step
from s2svos_engines.backends.openvino_runner import OpenVinoRunner
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import Counts, step_graph
from s2svos_engines.cpu import int8_pays
from s2svos_engines.engine import Engine
from s2svos_engines.letterbox import NetworkFrame
from s2svos_engines.profile import Layer, sample_input

_MAX_ENCODERS = 8  # that run at once, so that many cores do not mean many frames in memory


class OpenVinoEngine(Engine):
    """A call alone is run by all threads; the encoders of several calls run side by side.

    Of calls that are in flight together the encoders need no state: on a thread each they do not
    wait for each other, and a frame takes 55 ms of two cores' time instead of 65.

    Args:
        bundle: with the graphs.
        threads: processor threads of a step.
        precision: of the graphs.
        steps: that run at the same time, on ``threads`` threads each.
        arithmetic: what floating point is computed in, ``f32``, or ``bf16`` where
            :func:`~s2svos_engines.backends.openvino_graphs.has_bf16`; None for the faster of them
            that goes with the precision: no bf16 in fp32.
    """

    name = "openvino"

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int,
        precision: str = "fp32",
        steps: int = 1,
        arithmetic: str | None = None,
    ) -> None:
        super().__init__(bundle, precision=precision, threads=threads)
        self._bundle = bundle
        arithmetic = arithmetic or _arithmetics(precision)[-1]
        self._arithmetic = arithmetic
        encoders = min(threads, _MAX_ENCODERS)
        # One more for each encoder at work: 28 ms a frame with 4 calls, 30 with 3, 33 with 2.
        self.max_in_flight = 2 * encoders if threads > 1 else 1
        self.graphs = OpenVinoGraphs(
            bundle.graphs(precision),
            {
                name: bundle.graph_sum(name, precision=precision)
                for name in bundle.graph_names(precision)
            },
            self.contract,
            threads=threads,
            steps=steps,
            encoders=encoders,
            arithmetic=arithmetic,
            keep=bundle.lasting,
        )

    @cached_property
    def parallel(self) -> Engine:
        """As many steps at a time as this engine has threads."""
        if self.threads == 1:
            return self
        return OpenVinoEngine(
            self._bundle,
            threads=1,
            precision=self.precision,
            steps=self.threads,
            arithmetic=self._arithmetic,
        )

    @property
    def title(self) -> str:
        """The name, and ``bf16`` where that is the arithmetic."""
        return self.name if self._arithmetic == "f32" else f"{self.name} {self._arithmetic}"

    @classmethod
    def fast_precisions(cls) -> tuple[str, ...]:
        """Return those that this processor has instructions for; without, they gain nothing."""
        if has_bf16():
            return "int8", "fp16"
        return ("int8",) if int8_pays() else ()

    @classmethod
    def variants(cls, bundle: Bundle, *, precision: str, threads: int) -> list[Engine]:
        """In ``f32``, and then in ``bf16`` if it goes with the precision and can run here."""
        return [
            cls(bundle, threads=threads, precision=precision, arithmetic=arithmetic)
            for arithmetic in _arithmetics(precision)
        ]

    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of objects that enter on ``frame``."""
        request = self.graphs.full("init", Counts(len(first_masks))).create_infer_request()
        results = request.infer(
            {self.contract.frame.name: frame, self.contract.first_masks.name: first_masks}
        )
        return [results[spec.name].copy() for spec in self.contract.init_outputs]

    def expect(self, objects: int | None) -> None:
        """Compile what following so many objects needs, each graph in a thread.

        Python waits for these before it ends: OpenVINO, torn down while one of its threads is at
        work, ends the process with SIGABRT.
        """
        step = step_graph(max(self.frames_per_call))
        ahead = self.max_in_flight > 1
        if objects is not None:
            counts = Counts(objects)
            _in_background(lambda: self.graphs.full("init", counts))
            if ahead:
                _in_background(lambda: self.graphs.split(step, counts))
        elif ahead:
            _in_background(lambda: self.graphs.encoder(step))

    def profile_step(self, objects: int, *, repeats: int) -> list[Layer]:
        """Return the layers of a step with so many objects, slowest first."""
        frame, masks = sample_input(self.contract, objects)
        states = self.init(frame, masks)
        return profile_step(self.graphs, self.contract, frame, states, repeats=repeats)

    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> OpenVinoRunner:
        """Return a runner that starts from a copy of ``states``."""
        return OpenVinoRunner(self, self.graphs, states, owners)


def _in_background(compile_: Callable[[], object]) -> None:
    def quietly() -> None:
        with suppress(Exception):  # who needs the graph compiles it once more, and hears of it
            compile_()

    Thread(target=quietly).start()


def _arithmetics(precision: str) -> tuple[str, ...]:
    """Return what floating point may be computed in here, the fastest last."""
    # A step on AVX-512 takes 0.63 of fp32's time in bf16, 0.62 with int8 besides; int8 beside f32
    # takes 0.70.
    return ("f32", "bf16") if precision != "fp32" and has_bf16() else ("f32",)
