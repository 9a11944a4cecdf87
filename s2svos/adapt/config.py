"""How to tune a network to a first frame, how far it is, and what came of it. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AdaptConfig:
    """How to tune.

    Args:
        steps: of the optimiser, one clip each.
        learning_rate: Adam's at the start; it falls to zero.
        length: frames of a clip, the true first one included.
        seed: of the clips.
    """

    steps: int = 40
    learning_rate: float = 2e-4
    length: int = 3
    seed: int = 0


@dataclass(frozen=True)
class AdaptProgress:
    """How far tuning is.

    Args:
        step: steps done.
        steps: in all.
        loss: of the latest.
        seconds: since the start.
        seconds_left: at the same rate.
    """

    step: int
    steps: int
    loss: float
    seconds: float
    seconds_left: float


@dataclass(frozen=True)
class Adaptation:
    """What tuning did.

    Args:
        objects: how many it was for.
        steps, learning_rate, length, seed: as in the config.
        device: that computed.
        seconds: from the call to the tuned engine.
        before, after: mean J on invented views of the first frame that were not trained on.
        used: whether the tuned weights took the place of the bundle's own: only if they were
            better on those views.
    """

    objects: int
    steps: int
    learning_rate: float
    length: int
    seed: int
    device: str
    seconds: float
    before: float
    after: float
    used: bool
