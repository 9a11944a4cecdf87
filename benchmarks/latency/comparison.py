"""A regression, or noise?

Every group times a fixed matrix product among its variants. Medians are divided by its median,
so that a machine that is slower today slows both. The interval comes from resampled rounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.latency.records import Row, SuiteResult, label, once
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


def compare_results(before: Sequence[SuiteResult], after: Sequence[SuiteResult]) -> list[Change]:
    """Return the changes of all rows that both runs have; of a preset the last result counts."""
    earlier = {key: value for result in before for key, value in _rows(result).items()}
    later = {key: value for result in after for key, value in _rows(result).items()}
    changes = []
    for key in earlier.keys() & later.keys():
        (old_result, old), (new_result, new) = earlier[key], later[key]
        groups = [x["turns_ms"] for x in (new, old)] + [
            result["groups"][row["group"]]["control_ms"]
            for result, row in ((old_result, old), (new_result, new))
        ]
        whole = [np.concatenate([np.asarray(round_) for round_ in rounds]) for rounds in groups]
        low, high = np.percentile(bootstrap(groups, _ratio), INTERVAL)
        name = f"{new_result['preset']}, {label(new)}"
        changes.append(Change(name, _ratio(whole), float(low), float(high)))
    return sorted(changes, key=lambda change: -change.ratio)


def _rows(result: SuiteResult) -> dict[tuple[object, ...], tuple[SuiteResult, Row]]:
    """Peers are not ours to mend, so they are no rows here."""
    fields = ("contestant", "precision", "objects", "streams")
    return {
        (result["preset"], *result["size"], result["threads"], *(row[name] for name in fields)): (
            result,
            row,
        )
        for row in once(result)
        if row["kind"] != "peer"
    }


def _ratio(samples: Sequence[NDArray[np.float64]]) -> float:
    new, old, old_control, new_control = (float(np.median(each)) for each in samples)
    return new / old * old_control / new_control
