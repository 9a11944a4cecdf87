"""Distillation of a pruned backbone: training to make the maps that the whole one makes.

It takes pictures alone, no masks: what the backbone tells apart stays what ImageNet taught it, as
tuning it on few videos does not let it (docs/experiments.md).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from s2svos.network.lite import Lite
from s2svos.training.config import ScheduleConfig
from s2svos.training.optim import EMA, rate_at

BETWEEN = 0.2  # weight of maps that the rest of the network does not see, whose weight is 1
SCHEDULE = ScheduleConfig(kind="cosine", warm_up=0.02, floor=0.0)
BETAS = (0.9, 0.99)
EMA_DECAY = 0.995
GRAD_CLIP_NORM = 1.0


class Distillation:
    """The training of a pruned network's backbone.

    Args:
        pruned: whose backbone learns; all else stays.
        whole: whose maps it learns to make.
        steps: of the whole training.
        lr: highest learning rate.
        device: that it is done on; both networks are moved there.

    Attributes:
        step: how many are done.
    """

    def __init__(
        self, pruned: Lite, whole: Lite, *, steps: int, lr: float, device: str = "cpu"
    ) -> None:
        for network in (pruned, whole):
            network.eval().requires_grad_(False)  # BatchNorms keep their statistics
            network.to(device)
            network.encoder.backbone.to(memory_format=torch.channels_last)
        self._pruned, self._device = pruned, device
        self._whole, self._backbone = whole.encoder.backbone, pruned.encoder.backbone
        self._backbone.requires_grad_(True)
        self._optimiser = torch.optim.AdamW(
            self._backbone.parameters(), lr=lr, betas=BETAS, weight_decay=0.0
        )
        self._ema = EMA(pruned, EMA_DECAY)
        self._steps, self._lr, self.step = steps, lr, 0

    @property
    def average(self) -> Lite:
        """The pruned network with the moving average of its weights."""
        network = self._ema.network
        assert isinstance(network, Lite)
        return network

    def run(self, frames: Tensor) -> float:
        """Take one optimiser step; return the loss.

        Args:
            frames: uint8 [B, 3, H, W].
        """
        rate = self._lr * rate_at(self.step / self._steps, SCHEDULE)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        x = frames.to(self._device).float() / 127.5 - 1
        loss = self._loss(x.contiguous(memory_format=torch.channels_last))
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self._backbone.parameters(), GRAD_CLIP_NORM)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        self.step += 1
        self._ema.update(self._pruned, self.step)
        return float(loss.detach())

    def _loss(self, x: Tensor) -> Tensor:
        """Return the squared errors of the maps by their variance, weighted and summed."""
        with torch.no_grad():
            wanted = self._whole.maps(x)
        loss = x.new_zeros(())
        for block, (made, target) in enumerate(zip(self._backbone.maps(x), wanted, strict=True)):
            error = (made - target).square().mean() / target.var((0, 2, 3)).mean()
            loss = loss + (1.0 if block in self._backbone.levels else BETWEEN) * error
        return loss

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, less the average."""
        return {
            "step": self.step,
            "weights": self._pruned.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any], average: dict[str, Tensor]) -> None:
        """Go back to what :meth:`state` gave, and to an average."""
        self.step = state["step"]
        self._pruned.load_state_dict(state["weights"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._ema.network.load_state_dict(average)
