"""The states of several objects: joined, chosen from, and how many of what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import States
from s2svos_engines.contract import Counts, StepContract


def counts(contract: StepContract, states: States, *, streams: int = 1) -> Counts:
    """Return how many objects and entries the states have."""
    pairs = zip(contract.states, states, strict=True)
    entries = next((len(state) for spec, state in pairs if spec.entered), 1)
    return Counts(len(states[0]), entries, streams)


def of_each(contract: StepContract, states: States) -> States:
    """Return the states with those of an entry for each of its objects."""
    return [
        np.broadcast_to(state, (len(states[0]), *spec.shape)) if spec.entered else state
        for spec, state in zip(contract.states, states, strict=True)
    ]


def joined(contract: StepContract, parts: Sequence[States]) -> States:
    """Return the states of the objects of all parts, in this order, of one stream."""
    if len(parts) == 1:
        return parts[0]
    each = (of_each(contract, states) for states in parts)
    return [
        values[0] if spec.shared else np.concatenate(values)
        for spec, *values in zip(contract.states, *each, strict=True)
    ]


def chosen(contract: StepContract, states: States, which: NDArray[Any]) -> States:
    """Return the states of some objects.

    Args:
        contract: of the states.
        states: of N objects.
        which: bool [N], or their places in the order that is wanted.
    """
    return [
        state if spec.shared or (spec.entered and len(state) == 1) else state[which]
        for spec, state in zip(contract.states, states, strict=True)
    ]
