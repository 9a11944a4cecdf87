"""Every number of the training, saved with each checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, replace

from s2svos.data.dataset import Phase


@dataclass(frozen=True)
class TrainConfig:
    """How a network is trained.

    Args:
        phases: stretches of training, from small and quick to the size of use.
        learning_rate: highest rate of everything but the backbone.
        backbone_rate: highest rate of the backbone.
        warm_up: share of the steps in which the rates rise; they fall along a cosine after that.
        weight_decay: of AdamW.
        clip_gradient: largest norm of the gradient.
        hardest: share of the pixels that the cross entropy sees at the end of ``harden``.
        harden: share of the training over which ``hardest`` is reached, from all pixels.
        dice: weight of the soft Dice loss beside the cross entropy.
        average: decay of the moving average of the weights, which is what is kept.
        real: share of the clips that come from videos; the others come from stills.
        seed: of weights and clips.
    """

    phases: tuple[Phase, ...] = (Phase(2200, 6, 5, 128, 224), Phase(750, 4, 5, 192, 336))
    learning_rate: float = 1.5e-3
    backbone_rate: float = 2e-4
    warm_up: float = 0.05
    weight_decay: float = 0.01
    clip_gradient: float = 1.0
    hardest: float = 0.15
    harden: float = 0.3
    dice: float = 0.5
    average: float = 0.997
    real: float = 0.5
    seed: int = 1

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phases)


# The paper: Adam at 1e-5, clips of 5 frames at the full size, plain cross entropy.
PAPER = TrainConfig(
    phases=(Phase(10_000, 4, 5, 256, 448),),
    learning_rate=1e-5,
    backbone_rate=1e-5,
    weight_decay=0.0,
    hardest=1.0,
    dice=0.0,
)


def default_config(preset: str, *, steps: int | None, seed: int) -> TrainConfig:
    """How a preset is trained.

    Args:
        preset: ``lite`` or ``paper``.
        steps: in all, in place of the preset's; its phases keep their shares, at least 1 each.
        seed: of weights and clips.
    """
    config = replace(PAPER if preset == "paper" else TrainConfig(), seed=seed)
    if steps is None:
        return config
    scale = steps / config.steps
    shares = [max(1, round(scale * phase.steps)) for phase in config.phases[:-1]]
    shares.append(max(1, steps - sum(shares)))
    phases = (replace(p, steps=s) for p, s in zip(config.phases, shares, strict=True))
    return replace(config, phases=tuple(phases))
