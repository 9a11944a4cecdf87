from collections.abc import Sequence

import numpy as np
import pytest
import torch

from s2svos.network.config import LiteConfig
from s2svos.network.lite import PERIOD, Lite, State
from s2svos.training import corruption as module
from s2svos.training.corruption import corrupt_state, refresh_early
from s2svos.training.seeds import SeedStream

ALONE = torch.arange(6)  # six clips of one object each


def rngs_of(seed: int, numbers: Sequence[int]) -> list[np.random.Generator]:
    return [SeedStream.CORRUPTION.rng(seed, number) for number in numbers]


@pytest.fixture
def started() -> State:
    torch.manual_seed(0)
    network = Lite(LiteConfig(64, 96, hidden=8, first_key=8, last_key=8))
    features = network.features(torch.rand(6, 3, 64, 96) * 255)
    masks = torch.zeros(6, 1, 64, 96)
    masks[:, :, 16:48, 24:64] = 1
    return network.start(features, masks, ALONE)


def test_the_chance_decides(started: State) -> None:
    state = started
    assert corrupt_state(state, 0.0, ALONE, rngs_of(1, range(6))) is state
    corrupted = corrupt_state(state, 1.0, ALONE, rngs_of(1, range(6)))
    for before, after in zip(state.last_mask, corrupted.last_mask, strict=True):
        assert not torch.equal(before, after)
    assert torch.equal(corrupted.first_keys, state.first_keys)


def test_untouched_clips_stay_as_they_are(started: State) -> None:
    corrupted = corrupt_state(started, 0.5, ALONE, rngs_of(1, range(6)))
    same = [torch.equal(a, b) for a, b in zip(started.last_mask, corrupted.last_mask, strict=True)]
    assert 0 < sum(same) < 6
    assert torch.equal(corrupted.hidden[same], started.hidden[same])


@pytest.mark.parametrize("kind", module.KINDS)
def test_every_kind_of_error(kind: str, started: State, monkeypatch: pytest.MonkeyPatch) -> None:
    state = started
    monkeypatch.setattr(module, "SHARES", [float(kind == one) for one in module.KINDS])
    corrupted = corrupt_state(state, 1.0, ALONE, rngs_of(5, range(6)))
    before, after = state.last_mask.sum((1, 2, 3)), corrupted.last_mask.sum((1, 2, 3))
    if kind == "drop":
        assert (after == 0).all()
        forgotten = (corrupted.hidden == 0).flatten(1).all(1)
        assert 0 < forgotten.sum() < 6
        assert torch.equal(corrupted.cell[~forgotten], state.cell[~forgotten])
    elif kind == "cut":
        assert ((after > 0.2 * before) & (after < 0.8 * before)).all()
        assert (corrupted.last_mask <= state.last_mask).all()
    elif kind == "hole":
        assert ((after > 0.1 * before) & (after < before)).all()
        assert (corrupted.last_mask <= state.last_mask).all()
    elif kind == "swell":
        assert {True, False} == set((after > before).tolist())
        assert ((after > 0.2 * before) & (after < 2.5 * before)).all()
    else:
        assert ((corrupted.last_mask > 0.5) & (state.last_mask < 0.5)).any()
        assert (after >= before - 1e-3).all()
    assert torch.isfinite(corrupted.last_mask).all()


def test_objects_of_a_clip_change_places(started: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWAP", 1.0)
    masks = torch.rand_like(started.last_mask)
    state, owners = started._replace(last_mask=masks), torch.tensor([0, 0, 1, 1, 2, 2])
    corrupted = corrupt_state(state, 0.4, owners, rngs_of(3, range(3))).last_mask
    places = [[torch.equal(x, y) for y in masks].index(True) for x in corrupted]
    assert places != list(range(6))
    assert [place // 2 for place in places] == owners.tolist()


def test_the_slow_slot_takes_a_frame_of_the_clip(started: State) -> None:
    clock = refresh_early(started, 5, rngs_of(1, range(6))).slow_clock
    assert clock.shape == started.slow_clock.shape
    assert ((clock >= PERIOD - 3) & (clock < PERIOD)).all()


def test_the_errors_in_a_clip_are_its_own(started: State) -> None:
    """Alone, in another batch, or later: the same clip is corrupted in the same way."""
    state = started
    rngs = rngs_of(1, range(6))
    joint = [corrupt_state(state, 0.5, ALONE, rngs) for _ in range(3)]
    rngs = rngs_of(1, range(4, 6))
    part = State(*(x[4:] for x in state))
    for whole in joint:
        alone = corrupt_state(part, 0.5, ALONE[:2], rngs)
        for name, value in alone._asdict().items():
            torch.testing.assert_close(value, getattr(whole, name)[4:], msg=name)
    assert not torch.equal(joint[0].last_mask, joint[1].last_mask)
    other = corrupt_state(state, 0.5, ALONE, rngs_of(2, range(6)))
    assert not torch.equal(other.last_mask, joint[0].last_mask)
