"""Settings, progress and result of online learning. Needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AdaptConfig:
    """Settings of online learning.

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
    """The progress of tuning.

    Args:
        step: steps done.
        steps: in all.
        loss: of the latest step.
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
    """The result of tuning.

    Args:
        objects: how many the network was tuned to.
        steps, learning_rate, length, seed: as in the config.
        device: that computed.
        seconds: from the call to the tuned engine.
        before, after: mean J on invented views of the first frame that were not trained on.
        used: the tuned weights replaced the bundle's own, since they were better on those views.
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
