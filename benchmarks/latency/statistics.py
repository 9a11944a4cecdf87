"""Percentiles and their confidence.

Samples come in turns, and a busy moment of the machine hits a whole turn. So turns are resampled,
not samples, which would make the intervals far too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Rounds = Sequence[Sequence[float]]
"""Milliseconds of the steps of every round."""

PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
RESAMPLES = 1000


def summary(rounds: Rounds) -> dict[str, dict[str, float] | None]:
    """Every percentile with its 95 % bootstrap interval.

    None where there are too few samples to have seen one beyond it.
    """
    count = sum(map(len, rounds))
    seen = {name: q for name, q in PERCENTILES.items() if q == 50 or count * (100 - q) >= 100}
    wanted = list(seen.values())
    values = np.percentile(np.concatenate([np.asarray(round_) for round_ in rounds]), wanted)
    draws = bootstrap([rounds], lambda each: np.percentile(each[0], wanted))
    lows, highs = np.percentile(draws, [2.5, 97.5], axis=0)
    figures = zip(values, lows, highs, strict=True)
    found = {
        name: {"ms": float(value), "low": float(low), "high": float(high)}
        for name, (value, low, high) in zip(seen, figures, strict=True)
    }
    return {name: found.get(name) for name in PERCENTILES}


def misses(rounds: Rounds, rate: float) -> float:
    """Return the share of steps that take longer than a frame at ``rate`` frames a second."""
    return float(np.mean(np.concatenate([np.asarray(round_) for round_ in rounds]) > 1000 / rate))


def ratio(above: Rounds, below: Rounds) -> tuple[float, float, float]:
    """Return the ratio of medians and its 95 % interval; both were measured in the same rounds.

    Args:
        above: the numerator's steps.
        below: the denominator's.
    """
    count = min(len(above), len(below))
    pair = [above[:count], below[:count]]

    def of_medians(each: Sequence[NDArray[np.float64]]) -> float:
        return float(np.median(each[0]) / np.median(each[1]))

    low, high = np.percentile(bootstrap(pair, of_medians, together=True), [2.5, 97.5])
    return (
        of_medians([np.concatenate([*map(np.asarray, x)]) for x in pair]),
        float(low),
        float(high),
    )


def bootstrap(
    groups: Sequence[Rounds],
    statistic: Callable[[Sequence[NDArray[np.float64]]], float | NDArray[np.float64]],
    *,
    together: bool = False,
) -> NDArray[np.float64]:
    """Compute the statistic of resampled rounds, float [RESAMPLES] or [RESAMPLES, figures].

    Args:
        groups: rounds of each variant.
        statistic: of every variant's samples.
        together: take the same rounds of all groups, which then have as many.
    """
    rng = np.random.default_rng(0)
    arrays = [[np.asarray(round_, np.float64) for round_ in rounds] for rounds in groups]
    draws = []
    for _ in range(RESAMPLES):
        same = rng.integers(0, len(arrays[0]), len(arrays[0]))
        drawn = []
        for rounds in arrays:
            chosen = same if together else rng.integers(0, len(rounds), len(rounds))
            drawn.append(np.concatenate([rounds[index] for index in chosen]))
        draws.append(statistic(drawn))
    return np.array(draws)
