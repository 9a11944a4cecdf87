import numpy as np
import pytest
import torch

from s2svos.network.config import LiteConfig
from s2svos.network.lite import Lite
from s2svos.training.seeds import SeedStream
from s2svos.training.step import Rollout
from s2svos.training.windows import Move, View, move_windows, moved_state

OWNERS = torch.tensor([0, 1, 1])
Clips = tuple[torch.Tensor, torch.Tensor]


def rngs_of(*numbers: int) -> list[np.random.Generator]:
    return [SeedStream.WINDOWS.rng(4, number) for number in numbers]


@pytest.fixture
def clips() -> Clips:
    """Five frames of two clips, with one object and two."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.randint(0, 256, (5, 2, 3, 64, 96), dtype=torch.uint8, generator=generator)
    masks = torch.zeros(5, 3, 1, 64, 96, dtype=torch.uint8)
    masks[:, 0, :, 8:40, 50:80] = masks[:, 1, :, 20:50, 4:30] = masks[:, 2, :, 8:30, 40:60] = 255
    return frames, masks


@pytest.fixture
def network() -> Lite:
    torch.manual_seed(0)
    return Lite(LiteConfig(64, 96, hidden=8, first_key=8, last_key=8)).eval()


def test_a_view_shows_its_part() -> None:
    picture = torch.arange(64.0).view(1, 1, 8, 8)
    quarter = View(0.5, 0.5, -0.5).of(picture)  # to the right, at the top
    assert picture[0, 0, 0, 3] < quarter.min()  # half a pixel beyond the edge
    assert quarter.max() < picture[0, 0, 4, 7]
    torch.testing.assert_close(View(1.0, 0.0, 0.0).of(picture), picture)


def test_a_view_within_another() -> None:
    picture = torch.linspace(0, 1, 32 * 32).view(1, 1, 32, 32)
    old, new = View(0.8, 0.1, -0.1), View(0.4, 0.2, 0.0)
    direct, twice = new.of(picture), new.within(old).of(old.of(picture))
    torch.testing.assert_close(direct, twice, atol=1e-5, rtol=0)


def test_frames_and_masks_are_seen_through_the_same_windows(clips: Clips) -> None:
    frames, masks = clips
    shown = frames.clone()
    shown[:, 0] = masks[:, 0]  # a picture of the mask
    shown, seen, moves = move_windows(shown, masks, OWNERS, 1.0, rngs_of(1, 2))
    assert [move.clip for move in moves] == [0, 1]
    assert torch.equal(shown[:, 0, :1], seen[:, 0])
    assert not torch.equal(seen, masks)
    move = moves[0]
    assert torch.equal(move.entry[:1], move.entry_masks[0])
    still, _, none = move_windows(frames, masks, OWNERS, 0.0, rngs_of(1, 2))
    assert still is frames
    assert none == []


def test_only_the_clip_whose_window_moves_gets_another_state(network: Lite, clips: Clips) -> None:
    frames, masks = clips
    view = View(0.7, 0.1, 0.0)
    move = Move(1, 2, view, frames[0, 1], masks[0, 1:], frames[1, 1])
    features = network.features(frames[0].float())
    state = network.start(features, masks[0].float() / 255, OWNERS)
    entry, latest = (network.features(x[None].float()) for x in (move.entry, move.latest))
    after = moved_state(network, state, OWNERS, move, entry, latest)
    assert [x.shape for x in after] == [x.shape for x in state]
    for name in ("hidden", "cell", "last_mask", "last_keys", "last_instance"):
        assert torch.equal(getattr(after, name)[0], getattr(state, name)[0])
        assert not torch.equal(getattr(after, name)[1], getattr(state, name)[1])
    assert torch.equal(after.slow_keys, state.slow_keys)
    expected = view.of(state.last_mask[1:])
    torch.testing.assert_close(after.last_mask[1:], expected, atol=0.3, rtol=0)


def test_a_move_to_the_same_window_changes_next_to_nothing(network: Lite, clips: Clips) -> None:
    frames, masks = clips
    stays = View(1.0, 0.0, 0.0)
    moves = [Move(1, 3, stays, frames[0, 1], masks[0, 1:], frames[2, 1])]
    with torch.inference_mode():
        rollout = Rollout(network, corruption=0.0)
        plain = rollout(frames, masks[0], OWNERS)
        moved = rollout(frames, masks[0], OWNERS, (), moves)
    torch.testing.assert_close(moved[:, 0], plain[:, 0])
    torch.testing.assert_close(torch.sigmoid(moved), torch.sigmoid(plain), atol=0.02, rtol=0)
