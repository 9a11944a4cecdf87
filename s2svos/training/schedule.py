"""How learning rates change over a training."""

from __future__ import annotations

import math

from s2svos.training.config import ScheduleConfig

FIRST = 0.04
"""Share of the highest rate at which a warm-up begins, as in one-cycle's own proposal (1/25)."""


def rate_at(done: float, schedule: ScheduleConfig) -> float:
    """The share of the highest learning rate when ``done`` of the steps, 0 to 1, are over.

    After the warm-up, ``constant`` stays, ``cosine`` and ``one-cycle`` (arXiv 1708.07120, whose
    momentum stays as it is here) fall along half a cosine. The warm-up is a straight line, that of
    ``one-cycle`` half a cosine.
    """
    if done < schedule.warm_up:
        risen = done / schedule.warm_up
        if schedule.kind == "one-cycle":
            risen = _falling(1 - risen)
        return FIRST + (1 - FIRST) * risen
    if schedule.kind == "constant":
        return 1.0
    fallen = (done - schedule.warm_up) / (1 - schedule.warm_up)
    return schedule.floor + (1 - schedule.floor) * _falling(fallen)


def _falling(x: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * x))
