"""An engine that follows a clip at the network's size, and how alike two engines' masks are.

Calibration, the choice of int8, drift, the doctor and the benchmarks all follow clips this way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Frame, Labels, Masks, object_ids
from s2svos_engines.contract import StepContract
from s2svos_engines.engine import Engine, Runner
from s2svos_engines.letterbox import Letterbox, object_masks

Item = TypeVar("Item")


@dataclass(frozen=True)
class NetworkClip:
    """A clip at the network's size.

    Args:
        ids: of the N objects on the first frame, rising.
        first: the first frame, uint8 [h, w, 3] RGB.
        first_masks: uint8 [N, h, w], 0 to 255.
        frames: those after the first, each uint8 [h, w, 3] RGB; may be read once.
    """

    ids: tuple[int, ...]
    first: Frame
    first_masks: Masks
    frames: Iterable[Frame]

    @classmethod
    def of(cls, clip: Iterable[tuple[Frame, Labels]], contract: StepContract) -> NetworkClip:
        """Bring a clip to the size of a contract's frame; later frames when they are read.

        Args:
            clip: frames, uint8 [H, W, 3] RGB, with object ids, uint8 [H, W], of which the first
                are read.
            contract: of the graphs.

        Raises:
            ValueError: there is no frame, or no object on the first.
        """
        pairs = iter(clip)
        frame, labels = next(pairs, (None, None))
        if frame is None or labels is None or not labels.any():
            raise ValueError("the clip has no frame, or no object on its first frame")
        size = labels.shape[0], labels.shape[1]
        letterbox = Letterbox.of(size, (contract.height, contract.width))
        ids = tuple(object_ids(labels).tolist())
        return cls(
            ids,
            letterbox.resize(frame),
            np.stack([letterbox.resize(mask) for mask in object_masks(labels, ids)]),
            (letterbox.resize(frame) for frame, _ in pairs),
        )

    def start(self, engine: Engine) -> Runner[Any]:
        """Return a runner of an engine in the state after the first frame."""
        return engine.runner(engine.init(self.first, self.first_masks))

    def rollout(self, engine: Engine) -> Iterator[Masks]:
        """Follow the objects in closed loop; yields masks, uint8 [N, h, w], a frame."""
        return self.follow(self.start(engine))

    def follow(self, runner: Runner[Any]) -> Iterator[Masks]:
        """Follow the objects from a runner's state; yields masks, uint8 [N, h, w], a frame."""
        for frame in self.frames:
            yield runner.step(frame).copy()


def mask_iou(masks: Masks, others: Masks) -> NDArray[np.float64]:
    """Return the IoU of masks, uint8 [..., h, w] with an object from 128 on; two empty ones agree.

    Returns:
        float64 [...], 0 to 1.
    """
    a, b = masks > 127, others > 127
    union = (a | b).sum((-2, -1))
    ratio = (a & b).sum((-2, -1)) / np.maximum(union, 1)
    return np.where(union > 0, ratio, 1.0)


def ping_pong(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items to the last, back to the first and so on, without a jump; keeps them.

    Endless, but yields nothing if there is none.
    """
    kept = []
    for item in items:
        kept.append(item)
        yield item
    while kept:
        yield from kept[-2::-1] or kept
        yield from kept[1:]
