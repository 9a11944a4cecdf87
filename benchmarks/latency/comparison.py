"""A regression, or noise?

Every group times a fixed matrix product among its contestants. Medians are divided by its median,
so that a machine that is slower today slows both. The interval comes from resampled turns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.records import Heat, Row, label, once
from benchmarks.latency.statistics import bootstrap

INTERVAL = (1.0, 99.0)  # percent; many rows are tested at once


@dataclass(frozen=True)
class Change:
    """How a row's median changed: after / before, relative to the machine's own change."""

    name: str
    ratio: float
    low: float
    high: float

    def is_regression(self, threshold: float) -> bool:
        """Slower by more than ``threshold``, and surely slower."""
        return self.ratio > threshold and self.low > 1


def compare_heats(before: Sequence[Heat], after: Sequence[Heat]) -> list[Change]:
    """The changes of all rows that both runs have; of a preset the last heat counts."""
    earlier = {key: value for heat in before for key, value in _rows(heat).items()}
    later = {key: value for heat in after for key, value in _rows(heat).items()}
    changes = []
    for key in earlier.keys() & later.keys():
        (old_heat, old), (new_heat, new) = earlier[key], later[key]
        groups = [x["turns_ms"] for x in (new, old)] + [
            heat["groups"][row["group"]]["control_ms"]
            for heat, row in ((old_heat, old), (new_heat, new))
        ]
        whole = [np.concatenate([np.asarray(turn) for turn in turns]) for turns in groups]
        low, high = np.percentile(bootstrap(groups, _ratio), INTERVAL)
        name = f"{new_heat['preset']}, {label(new)}"
        changes.append(Change(name, _ratio(whole), float(low), float(high)))
    return sorted(changes, key=lambda change: -change.ratio)


def _rows(heat: Heat) -> dict[tuple[object, ...], tuple[Heat, Row]]:
    """Peers are not ours to mend, so they are no rows here."""
    fields = ("contestant", "precision", "objects", "streams")
    return {
        (heat["preset"], *heat["size"], heat["threads"], *(row[name] for name in fields)): (
            heat,
            row,
        )
        for row in once(heat)
        if row["kind"] != "peer"
    }


def _ratio(samples: Sequence[NDArray[np.float64]]) -> float:
    new, old, old_control, new_control = (float(np.median(each)) for each in samples)
    return new / old * old_control / new_control
