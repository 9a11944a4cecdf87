"""A network run over clips as it is run over videos: on its own masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2svos.network.lite import Lite
from s2svos.network.paper import Paper
from s2svos.training.spoil import spoil


class ClosedLoop(nn.Module):
    """Every frame after the first sees the network's own state, and nothing of the truth.

    One module with one ``forward``, which is what autocast and data parallelism hook into.

    Args:
        network: of either preset.
        spoil: chance, a clip and frame, that the default network's state is spoilt, see
            :mod:`s2svos.training.spoil`.
    """

    def __init__(self, network: Lite | Paper, *, spoil: float) -> None:
        super().__init__()
        self.network, self.spoil = network, spoil

    def forward(
        self, frames: Tensor, first_masks: Tensor, rngs: Sequence[np.random.Generator] = ()
    ) -> Tensor:
        """Runs clips.

        Args:
            frames: uint8 [T, B, 3, H, W]. Bytes, because autocast would round floats.
            first_masks: uint8 [B, 1, H, W], 255 for the object.
            rngs: B, that clips are spoilt by; none are needed where ``spoil`` is 0.

        Returns:
            Logits of all frames but the first, float [T - 1, B, 1, H, W].
        """
        length, batch = frames.shape[:2]
        encoded = self.network.features(frames.flatten(0, 1).float())
        by_frame = [
            type(encoded)(*(x.view(length, batch, *x.shape[1:])[t] for x in encoded))
            for t in range(length)
        ]
        state: Any = self.network.start(by_frame[0], first_masks.float() / 255)  # type: ignore[arg-type]
        logits: list[Tensor] = []
        for features in by_frame[1:]:
            if logits and self.spoil and isinstance(self.network, Lite):
                state = spoil(state, self.spoil, rngs)
            out, state = self.network.advance(features, state)  # type: ignore[arg-type]
            logits.append(out)
        full = torch.cat(logits)
        if full.shape[-2:] != frames.shape[-2:]:
            full = F.interpolate(full, frames.shape[-2:], mode="bilinear")
        return full.view(length - 1, batch, *full.shape[1:])
