"""States of objects that entered together, and of others that joined them."""

import numpy as np
import pytest

from s2svos_engines.arrays import States
from s2svos_engines.contract import Counts, StateSpec, StepContract
from s2svos_engines.states import chosen, counts, joined, of_each

CONTRACT = StepContract(
    32,
    32,
    (
        StateSpec("hidden", (2,)),
        StateSpec("first", (3,), entered=True),
        StateSpec("last", (4,), shared=True),
    ),
)


def states(*objects: int, entry: int) -> States:
    """Return states that tell the objects and the frame where they entered."""
    hidden = np.repeat(np.float32(objects)[:, None], 2, 1)
    return [hidden, np.full((1, 3), entry, np.float32), np.full(4, entry, np.float32)]


def first(found: States) -> list[float]:
    return [float(row[0]) for row in found[1]]


def test_what_one_entry_has_is_kept_once() -> None:
    together = states(1, 2, 3, entry=7)
    assert counts(CONTRACT, together) == Counts(objects=3, entries=1)
    assert joined(CONTRACT, [together]) is together
    fewer = chosen(CONTRACT, together, np.array([True, False, True]))
    assert first(fewer) == [7] and fewer[0][:, 0].tolist() == [1, 3]


def test_objects_of_two_entries_have_each_their_own() -> None:
    both = joined(CONTRACT, [states(1, 2, entry=7), states(3, entry=8)])
    assert counts(CONTRACT, both) == Counts(objects=3, entries=3)
    assert first(both) == [7, 7, 8]
    assert both[2].tolist() == [7] * 4, "the stream's own are the first part's"
    crossed = chosen(CONTRACT, both, np.array([2, 0, 1]))
    assert first(crossed) == [8, 7, 7] and crossed[0][:, 0].tolist() == [3, 1, 2]
    assert first(chosen(CONTRACT, crossed, np.array([False, True, True]))) == [7, 7]


def test_each_object_has_a_row_for_the_batch_graph() -> None:
    assert first(of_each(CONTRACT, states(1, 2, entry=7))) == [7, 7]
    for spec, batched in zip(
        CONTRACT.interface("step").inputs[1:],
        CONTRACT.interface("batch").inputs[2:],
        strict=True,
    ):
        many = Counts(objects=5, entries=1, streams=2)
        leading = 2 if spec.name == "in_last" else 5
        assert batched.sizes(many) == (leading, *spec.shape[-1:])


def test_the_first_state_is_each_objects_own() -> None:
    with pytest.raises(ValueError, match="not each object's own"):
        StepContract(32, 32, (StateSpec("first", (3,), entered=True),))
