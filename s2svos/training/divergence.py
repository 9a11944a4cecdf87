"""Detection of a diverged training, before anything good is overwritten."""

from __future__ import annotations

import math
from dataclasses import dataclass

from s2svos.training.config import DivergenceConfig

MEMORY = 0.98  # decay a step of the running mean
SUSPECT_AFTER = 2  # steps in a row far above the mean from which on nothing is saved


@dataclass
class Divergence:
    """A watch over the loss.

    Args:
        config: how far and how long it may be above its mean.
        mean: running mean of the losses that were not far above it; None before the first.
        far: how many losses in a row are.
    """

    config: DivergenceConfig
    mean: float | None = None
    far: int = 0

    @property
    def suspect(self) -> bool:
        """Whether the present weights may have diverged."""
        return self.far >= SUSPECT_AFTER

    def problem(self, loss: float, gradient: float, *, scaled: bool) -> str | None:
        """Return what is wrong after a step, None if nothing is.

        Args:
            loss: of the step.
            gradient: its norm.
            scaled: whether a gradient that is not finite was skipped, as fp16's scaling does.
        """
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if not (scaled or math.isfinite(gradient)):
            return f"the gradient is {gradient}"
        mean = loss if self.mean is None else self.mean
        if loss > self.config.factor * mean:
            self.far += 1
            if self.far < self.config.patience:
                return None
            return f"for {self.far} steps the loss, {loss:.3g}, is far above its mean, {mean:.3g}"
        self.far = 0
        self.mean = MEMORY * mean + (1 - MEMORY) * loss
        return None
