"""The config of a training, as YAML files state it. Saved with each checkpoint.

Nothing has a default here that a preset states, so that each number is written in one place.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PlainSerializer,
    PositiveFloat,
    PositiveInt,
    Tag,
)
from pydantic.dataclasses import dataclass as checked

from s2svos.data.config import ONE_OBJECT, DataConfig, ObjectSampling, Phase
from s2svos.network.config import LiteConfig, PaperConfig, config_to_json

Share = Annotated[float, Field(ge=0, le=1)]
PositiveShare = Annotated[float, Field(gt=0, le=1)]
STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _preset(value: Any) -> str | None:
    return value.get("preset") if isinstance(value, dict) else getattr(value, "preset", None)


def _fields(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    # What a validator has had in hand is no longer JSON, whose arrays are tuples.
    return {k: tuple(v) if isinstance(v, list) else v for k, v in value.items() if k != "preset"}


Network = Annotated[
    Annotated[PaperConfig, BeforeValidator(_fields), Tag(PaperConfig.preset)]
    | Annotated[LiteConfig, BeforeValidator(_fields), Tag(LiteConfig.preset)],
    Discriminator(_preset),
    PlainSerializer(config_to_json),
]


@dataclass(frozen=True)
class PhaseConfig:
    """A stretch of training with clips of one kind; its length is in steps or in epochs.

    Args:
        batch: clips of an optimiser step, over all devices.
        length: frames a clip.
        height, width: pixels.
        steps: optimiser steps.
        epochs: or times ``epoch_clips`` clips.
    """

    batch: PositiveInt
    length: Annotated[int, Field(ge=2)]
    height: PositiveInt
    width: PositiveInt
    steps: PositiveInt | None = None
    epochs: PositiveFloat | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ValueError("a phase has either steps or epochs")


@dataclass(frozen=True)
class BackboneConfig:
    """Start of the backbone.

    Args:
        weights: ``none``, ``imagenet`` or a file of weights.
        freeze: keep weights and BatchNorm of a backbone that started from given weights.
    """

    weights: str
    freeze: bool


@dataclass(frozen=True)
class OptimiserConfig:
    """Optimiser of the weights.

    Args:
        kind: Adam, or AdamW, whose weight decay does not pass through the moments.
        lr: highest learning rate of everything but the backbone.
        backbone_lr: that of the backbone.
        betas: decay of the two moments.
        weight_decay: a step, times the learning rate.
        grad_clip_norm: largest norm of the gradient.
    """

    kind: Literal["adam", "adamw"]
    lr: PositiveFloat
    backbone_lr: NonNegativeFloat
    betas: tuple[Share, Share]
    weight_decay: NonNegativeFloat
    grad_clip_norm: PositiveFloat


@dataclass(frozen=True)
class ScheduleConfig:
    """Schedule of the learning rates.

    Args:
        kind: ``constant``, ``cosine`` or ``one-cycle``, see :mod:`s2svos.training.optim`.
        warm_up: share of the steps in which the rates rise.
        floor: share of the highest rate at which they end.
    """

    kind: Literal["constant", "cosine", "one-cycle"]
    warm_up: Annotated[float, Field(ge=0, lt=1)]
    floor: Share


@dataclass(frozen=True)
class LossConfig:
    """Terms of the loss.

    Args:
        bootstrap_ratio: share of a clip's pixels, the hardest, that the cross entropy sees in the
            end.
        bootstrap_steps: share of the training's steps over which the ratio falls to that from 1.
        dice: weight of the soft Dice loss beside the cross entropy.
        border: what a pixel near the object's border counts more in the cross entropy, 0 for
            nothing.
    """

    bootstrap_ratio: PositiveShare
    bootstrap_steps: Share
    dice: NonNegativeFloat
    border: NonNegativeFloat


@dataclass(frozen=True)
class ValidationConfig:
    """Validation of the averaged weights while the training runs.

    Args:
        every: steps; 0 for never.
        clips: videos at most.
        frames: of each, from its beginning.
        data: the videos; None for the ``val`` split of the DAVIS that is trained on, or synthetic
            clips where there is none.
    """

    every: NonNegativeInt
    clips: PositiveInt
    frames: Annotated[int, Field(ge=2)]
    data: DataConfig | None = None


@dataclass(frozen=True)
class DivergenceConfig:
    """When a training is given up.

    Args:
        factor: a loss that is this many times its running mean is far above it.
        patience: steps in a row with such a loss that end the training.
    """

    factor: Annotated[float, Field(gt=1)]
    patience: PositiveInt


@checked(frozen=True, config=STRICT)
class TrainConfig:
    """The whole config of a training.

    Args:
        network: what is built; its size is that of use, each phase trains at its own.
        backbone: where it starts.
        data: what the clips are drawn from.
        phases: stretches of training, from small and quick to the size of use.
        epoch_clips: clips of an epoch: clips are drawn at random for as long as wanted, so an
            epoch is a stated number of them.
        optimiser: how the weights move.
        schedule: of the learning rates.
        loss: what is minimised.
        corruption: chance, an object and frame, of an error made on purpose (default network
            only).
        ema_decay: decay of the moving average of the weights, which is what is kept.
        validation: of the averaged weights.
        divergence: when to give up.
        checkpoint_every: steps.
        precision: of the network's arithmetic; ``auto`` is bf16 on a GPU that has it, else fp32.
        grad_accumulation: parts, one after the other, into which each device's share of a
            batch is split so that it fits the memory; the gradient is the same.
        devices: GPUs of this machine, or processes where it has none; torchrun's numbers win.
        workers: processes, for each device, that make clips.
        strict: stop at the first damaged file of the data; if not, skip and count them.
        seed: of weights and clips.
        init: checkpoint whose weights the network starts from: ``lite``, which ships, or a path.
        objects: how many of a clip are followed.
        windows: chance, a clip, that it is seen through a window that moves (default network only).
    """

    network: Network
    backbone: BackboneConfig
    data: tuple[DataConfig, ...]
    phases: Annotated[tuple[PhaseConfig, ...], Field(min_length=1)]
    epoch_clips: PositiveInt
    optimiser: OptimiserConfig
    schedule: ScheduleConfig
    loss: LossConfig
    corruption: Share
    ema_decay: Annotated[float, Field(ge=0, lt=1)]
    validation: ValidationConfig
    divergence: DivergenceConfig
    checkpoint_every: PositiveInt
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    grad_accumulation: PositiveInt
    devices: PositiveInt
    workers: NonNegativeInt
    strict: bool
    seed: NonNegativeInt
    init: str | None = None
    objects: ObjectSampling = ONE_OBJECT  # which older files do not state
    windows: Share = 0  # likewise

    def __post_init__(self) -> None:
        stride = self.network.stride
        for sized in (self.network, *self.phases):
            if sized.height % stride or sized.width % stride:
                raise ValueError(
                    f"{sized.height}x{sized.width} does not fit the {self.network.preset} network, "
                    f"whose height and width are multiples of {stride}"
                )

    @property
    def phase_steps(self) -> tuple[Phase, ...]:
        """The phases with their lengths in steps."""
        phases = []
        for phase in self.phases:
            clips = (phase.epochs or 0) * self.epoch_clips
            steps = phase.steps or max(1, round(clips / phase.batch))
            phases.append(Phase(steps, phase.batch, phase.length, phase.height, phase.width))
        return tuple(phases)

    @property
    def steps(self) -> int:
        """Optimiser steps of all phases."""
        return sum(phase.steps for phase in self.phase_steps)

    @property
    def epochs(self) -> float:
        """Epochs of all phases."""
        return sum(phase.steps * phase.batch for phase in self.phase_steps) / self.epoch_clips


def with_steps(config: TrainConfig, steps: int) -> TrainConfig:
    """Return a config with ``steps`` in all; phases keep their shares, those of no step go."""
    ends = accumulate((phase.steps for phase in config.phase_steps), initial=0)
    scaled = [round(end * steps / config.steps) for end in ends]
    phases = tuple(
        replace(phase, steps=end - begin, epochs=None)
        for phase, (begin, end) in zip(config.phases, pairwise(scaled), strict=True)
        if end > begin
    )
    return replace(config, phases=phases)


def with_epochs(config: TrainConfig, epochs: float) -> TrainConfig:
    """Return a config with ``epochs`` in all; its phases keep their shares."""
    return with_steps(config, max(1, round(config.steps * epochs / config.epochs)))


def with_backbone_weights(config: TrainConfig, weights: str) -> TrainConfig:
    """Return a config whose backbone starts from other weights."""
    return replace(config, backbone=replace(config.backbone, weights=weights))


def with_batch(config: TrainConfig, batch: int) -> TrainConfig:
    """Return a config with ``batch`` clips a step in every phase; lengths in epochs stay so."""
    return replace(config, phases=tuple(replace(phase, batch=batch) for phase in config.phases))


def with_lr(config: TrainConfig, lr: float) -> TrainConfig:
    """Return a config with another highest learning rate; the backbone's keeps its share of it."""
    old = config.optimiser
    backbone_lr = old.backbone_lr * lr / old.lr
    return replace(config, optimiser=replace(old, lr=lr, backbone_lr=backbone_lr))
