"""Clips seen through a window that moves once, as a stream's may (:mod:`s2svos_engines.window`).

A clip is shown from some frame on through another part of its pictures, enlarged, and the state
goes on as :mod:`s2svos_engines.window_state` makes it go on, so that the network learns from the
states that a moved window leaves it with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from s2svos.network.lite import Features, State
from s2svos.network.segmenter import AnySegmenter

SMALLEST = 0.6  # window, shares of the clip's height and width: pixels are not enlarged much more
WHOLE = 0.4  # of the windows


class View(NamedTuple):
    """The part of a clip that is seen, in shares of its frames' height and width.

    Args:
        size: of its height and width, 1 for all.
        x: of its middle, -1 to 1 from the left to the right edge of the frame.
        y: likewise.
    """

    size: float
    x: float
    y: float

    def within(self, other: View) -> View:
        """Return this view as a part of what another one shows."""
        return View(
            self.size / other.size, (self.x - other.x) / other.size, (self.y - other.y) / other.size
        )

    def grid(self, height: int, width: int) -> Tensor:
        """Return where the pixels of the view lie, float [1, height, width, 2]."""
        theta = torch.tensor([[self.size, 0, self.x], [0, self.size, self.y]])
        return F.affine_grid(theta[None], [1, 1, height, width], align_corners=False)

    def of(self, maps: Tensor, *, border: str = "border") -> Tensor:
        """Return what the view shows of maps [N, C, h, w], float32, as such maps.

        Args:
            maps: of any dtype.
            border: what lies beyond them: ``border``, their edge, or ``zeros``.
        """
        grid = self.grid(*maps.shape[2:]).to(maps.device).expand(len(maps), -1, -1, -1)
        return F.grid_sample(maps.float(), grid, padding_mode=border, align_corners=False)


class Move(NamedTuple):
    """A move of the window of one clip.

    Args:
        clip: its number in the batch.
        frame: the first that is seen through the new window.
        view: the new window, as a part of what the old one shows.
        entry: uint8 [3, H, W], the first frame through a window of the new one's size.
        entry_masks: uint8 [K, 1, H, W], of the clip's objects there.
        latest: uint8 [3, H, W], the frame before the move, through the new window.
    """

    clip: int
    frame: int
    view: View
    entry: Tensor
    entry_masks: Tensor
    latest: Tensor


def move_windows(
    frames: Tensor,
    masks: Tensor,
    owners: Tensor,
    chance: float,
    rngs: Sequence[np.random.Generator],
) -> tuple[Tensor, Tensor, list[Move]]:
    """Show some of the clips through windows.

    Args:
        frames: uint8 [T, B, 3, H, W].
        masks: uint8 [T, N, 1, H, W], of their objects.
        owners: int64 [N], the clip of each object.
        chance: of a clip, that a window moves in it.
        rngs: one a clip.

    Returns:
        Frames and masks as they are then seen, and the moves.
    """
    moves: list[Move] = []
    for clip, rng in enumerate(rngs):
        if len(frames) < 3 or rng.random() >= chance:
            continue
        own = owners == clip
        clip_frames, clip_masks = frames[:, clip], masks[:, own]
        at = int(rng.integers(2, len(frames)))
        old = _draw(clip_masks[0], rng)
        new = _draw(clip_masks[at - 1], rng)
        entry = _around(clip_masks[0], new.size)
        moves.append(
            Move(
                clip,
                at,
                new.within(old),
                _bytes(entry.of(clip_frames[:1]))[0],
                _bytes(entry.of(clip_masks[0])),
                _bytes(new.of(clip_frames[at - 1 : at]))[0],
            )
        )
        frames, masks = frames.clone(), masks.clone()
        for part, view in ((slice(at), old), (slice(at, None), new)):
            frames[part, clip] = _bytes(view.of(clip_frames[part]))
            seen = view.of(clip_masks[part].flatten(0, 1))
            masks[part, own] = _bytes(seen).view_as(clip_masks[part])
    return frames, masks, moves


def moved_state(
    network: AnySegmenter,
    state: State,
    owners: Tensor,
    move: Move,
    entry: Features,
    latest: Features,
) -> State:
    """Return the state of all clips' objects after a move of one clip's window.

    Args:
        network: of the state.
        state: of N objects of B clips.
        owners: int64 [N], the clip of each object.
        move: of one clip's window.
        entry: features of its first frame through the new window.
        latest: of the frame before the move, likewise.
    """
    objects = torch.nonzero(owners == move.clip)[:, 0]
    size = (move.entry.shape[-2], move.entry.shape[-1])
    masks = F.interpolate(state.last_mask[objects].float(), size, mode="bilinear")
    recent = network.start(latest, move.view.of(masks, border="zeros"))
    first = network.start(entry, move.entry_masks.float() / 255, torch.zeros_like(objects))
    seen = move.view.grid(*state.hidden.shape[2:]).abs().amax(3)[:, None] <= 1
    seen = seen.to(state.hidden.device)
    hidden = torch.where(seen, move.view.of(state.hidden[objects]), recent.hidden.float())
    cell = torch.where(seen, move.view.of(state.cell[objects]), recent.cell.float())
    new = {
        "hidden": hidden,
        "cell": cell,
        "first_keys": first.first_keys,
        "first_mask": first.first_mask,
        "first_instance": first.first_instance,
        "last_keys": recent.last_keys,
        "last_mask": recent.last_mask,
        "last_instance": recent.last_instance,
    }
    clip = torch.tensor([move.clip], device=owners.device)
    return state._replace(
        **{
            name: getattr(state, name).index_copy(
                0, clip if name == "last_keys" else objects, x.to(getattr(state, name).dtype)
            )
            for name, x in new.items()
        }
    )


def _draw(masks: Tensor, rng: np.random.Generator) -> View:
    """Draw a window that shows the middle of the objects, masks uint8 [K, 1, H, W]."""
    if rng.random() < WHOLE:
        return View(1.0, 0.0, 0.0)
    size = float(rng.uniform(SMALLEST, 1))
    aimed, shift = _around(masks, size), size * rng.uniform(-0.3, 0.3, 2)
    return _limited(size, aimed.x + float(shift[0]), aimed.y + float(shift[1]))


def _around(masks: Tensor, size: float) -> View:
    """Return the window of a size around the middle of the objects; of the frame, without any."""
    weight = masks.float().sum((0, 1))
    height, width = weight.shape
    total = float(weight.sum())
    if total == 0:
        return View(size, 0.0, 0.0)
    y = float((weight.sum(1) * torch.linspace(-1, 1, height, device=weight.device)).sum()) / total
    x = float((weight.sum(0) * torch.linspace(-1, 1, width, device=weight.device)).sum()) / total
    return _limited(size, x, y)


def _limited(size: float, x: float, y: float) -> View:
    """Return a window that lies within the frame."""
    room = 1 - size
    return View(size, min(max(x, -room), room), min(max(y, -room), room))


def _bytes(x: Tensor) -> Tensor:
    return x.round().to(torch.uint8)
