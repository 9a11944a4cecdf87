"""Streams of random numbers that a training draws from one seed."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class SeedStream(IntEnum):
    """Third number of a seed; the clips of a training have two numbers."""

    VALIDATION = 7
    FIRST_FRAMES = 8
    CORRUPTION = 9
    WINDOWS = 10

    def rng(self, seed: int, number: int) -> np.random.Generator:
        """Return the generator of one clip, by the seed and the clip's number in the run."""
        return np.random.default_rng([seed, number, int(self)])
