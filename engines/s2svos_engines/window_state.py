"""The state of a stream whose window moves: what the cell would hold had it seen the new one.

A state's name tells what becomes of it. What is remembered of the frame where objects entered
(``first_...``) is computed anew from that frame, in a window of the new one's size; what is
remembered of the previous frame (``last_...``) from that frame and its masks. What is remembered
of a frame in between (``slow_...``) stays: its keys and masks belong together, and that frame is
not kept (resampling its masks alone cost 0.004 of J on the held-out sequences). Maps of the cell
are resampled, with what ``init`` makes of the previous frame where the old window did not reach.
All other states stay.
"""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import AnyFrame, Labels, Masks, States
from s2svos_engines.engine import Engine
from s2svos_engines.letterbox import Letterbox, object_masks, to_network
from s2svos_engines.window import FollowingWindow, mask_boxes, union


class Entry(NamedTuple):
    """Objects that entered together, with the frame that is kept for them.

    Args:
        frame: uint8 [H, W, 3] RGB, where they entered.
        labels: uint8 [H, W], their ids on it.
        ids: uint8 [N], those that are still followed.
    """

    frame: AnyFrame
    labels: Labels
    ids: NDArray[np.uint8]

    def copy(self) -> Entry:
        """Return a copy of frame and labels: the caller may write the next frame over them."""
        # On a GPU, PyTorch's arrays have clone, CuPy's and PyCUDA's copy.
        copy = getattr(self.frame, "clone", None) or self.frame.copy  # type: ignore[union-attr]
        return Entry(copy(), self.labels.copy(), self.ids)

    def init(self, engine: Engine, letterbox: Letterbox) -> States:
        """Return the states of the N objects on their first frame, seen through a letterbox."""
        masks = [letterbox.resize(mask) for mask in object_masks(self.labels, self.ids)]
        return engine.init(to_network(self.frame, letterbox), np.stack(masks))

    def letterbox(self, window: FollowingWindow, like: Letterbox) -> Letterbox:
        """Return the letterbox of a window around the objects, of another one's size if it fits."""
        boxes = [box for box in mask_boxes(object_masks(self.labels, self.ids)) if box]
        return window.around(union(boxes), size=like.region[2:])


class Look(NamedTuple):
    """The latest frame, through the window of then.

    Args:
        frame: uint8 [H, W, 3] RGB.
        masks: uint8 [N, h, w], the network's, probabilities times 255.
        letterbox: of the masks.
    """

    frame: AnyFrame
    masks: Masks
    letterbox: Letterbox


def moved_states(
    engine: Engine, look: Look, target: Letterbox, states: States, first_states: States
) -> States:
    """Return the states after a move of the window.

    Args:
        engine: of the stream.
        look: at the latest frame.
        target: the letterbox of the new window.
        states: of N objects, in the old window.
        first_states: of the N objects on the frames where they entered.
    """
    masks = look.letterbox.warp(look.masks, target, border=cv2.BORDER_CONSTANT)
    recent = engine.init(to_network(look.frame, target), masks)
    moved = []
    for index, (spec, state) in enumerate(zip(engine.contract.states, states, strict=True)):
        if spec.name.startswith("first"):
            moved.append(np.asarray(first_states[index]))
        elif spec.name.startswith("last"):
            moved.append(np.asarray(recent[index]))
        elif len(spec.shape) == 3 and not spec.name.startswith("slow"):
            map_ = np.asarray(state, np.float32)
            resampled = look.letterbox.warp(map_, target, border=cv2.BORDER_REPLICATE)
            seen = look.letterbox.sees(target, (map_.shape[-2], map_.shape[-1]))
            moved.append(np.where(seen, resampled, recent[index]))
        else:
            moved.append(np.array(state))
    return moved
