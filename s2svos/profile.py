"""Where a step's time goes, layer by layer."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np

from s2svos.extras import needs
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import step_graph
from s2svos_engines.registry import load_engine

SIDE = 1024  # of the square matrices whose product is the peak
REPEATS = 20


@dataclass(frozen=True)
class LayerTime:
    """A layer of the step.

    Args:
        name: in the network, or the node's where it has no weights.
        operator: in the engine's words.
        kernel: likewise.
        milliseconds: of a step.
        share: of the time of all layers.
        megaflops: that it takes; 0 for what is no convolution or matrix product.
        of_peak: its FLOP a second, of those of a matrix product in fp32; more than 1 in a lower
            precision.
    """

    name: str
    operator: str
    kernel: str
    milliseconds: float
    share: float
    megaflops: float
    of_peak: float


@dataclass(frozen=True)
class Profile:
    """A step on an engine.

    Args:
        engine: with its arithmetic.
        precision: of the graphs.
        objects: that are followed.
        peak: FLOP a second of a matrix product in fp32 on all cores.
        layers: slowest first.
    """

    engine: str
    precision: str
    objects: int
    peak: float
    layers: tuple[LayerTime, ...]


def profile(bundle: Bundle, *, engine: str, precision: str, objects: int) -> Profile:
    """Step a frame of noise again and again, and return the time of each layer.

    Args:
        bundle: with the graphs.
        engine, precision: as :func:`~s2svos_engines.registry.load_engine`.
        objects: that are followed.

    Raises:
        UserError: the engine cannot be used or has no counters, or the extra ``train`` is missing.
    """
    with needs("train"):
        from s2svos_export.work import count
    loaded = load_engine(bundle, engine, precision=precision)
    work = count(bundle.graph(step_graph(1), precision=loaded.precision), objects=objects)
    layers = loaded.profile_step(objects, repeats=REPEATS)
    whole, peak = sum(layer.seconds for layer in layers), _peak()
    return Profile(
        loaded.title,
        loaded.precision,
        objects,
        peak,
        tuple(
            LayerTime(
                name=work.layers.get(layer.node, layer.node),
                operator=layer.operator,
                kernel=layer.kernel,
                milliseconds=1000 * layer.seconds,
                share=layer.seconds / whole,
                megaflops=work.nodes.get(layer.node, 0) / 1e6,
                of_peak=work.nodes.get(layer.node, 0) / layer.seconds / peak,
            )
            for layer in layers
        ),
    )


def _peak() -> float:
    """Return the FLOP a second of NumPy's matrix product, the best of ten."""
    square = np.ones((SIDE, SIDE), np.float32)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - began)
    return 2 * SIDE**3 / best
