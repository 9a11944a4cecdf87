"""Configs that networks are built from, saved with every checkpoint and bundle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

BACKBONES = {"efficientnet-lite0": 15, "efficientnet-lite1": 20}
"""How many blocks each has."""
LARGEST = 8192  # rows, columns or filters that a file may ask for


@dataclass(frozen=True)
class PaperConfig:
    """The network of the paper (arXiv 1809.00461, section 4.2).

    Args:
        height, width: frame size in pixels, multiples of 32.
        channels: filters of the ConvLSTM and of the encoder's output.
        fc_channels: filters of VGG-16's first fully connected layer, run as a 1x1 convolution.
        vgg_width: multiplier on VGG-16's channels; 1 takes ImageNet weights, less is for tests.
    """

    preset: ClassVar[str] = "paper"
    stride: ClassVar[int] = 32
    height: int = 256
    width: int = 448
    channels: int = 512
    fc_channels: int = 4096
    vgg_width: float = 1.0


@dataclass(frozen=True)
class LiteConfig:
    """The default network: EfficientNet-Lite, matching memories and a ConvLSTM at stride 16.

    Args:
        height, width: frame size in pixels, multiples of 32.
        backbone: a key of :data:`BACKBONES`.
        hidden: filters of the ConvLSTM.
        first_key: channels of the keys that are matched with the first frame.
        last_key: of those, how many are matched with the previous frame.
        widths: channels in the middle of each block of a backbone that was pruned
            (:mod:`s2svos.training.pruning`); none, as published.
    """

    preset: ClassVar[str] = "lite"
    stride: ClassVar[int] = 32
    height: int = 256
    width: int = 448
    backbone: str = "efficientnet-lite0"
    hidden: int = 64
    first_key: int = 128
    last_key: int = 64
    widths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        blocks = BACKBONES.get(self.backbone)
        if self.widths and len(self.widths) != blocks:
            raise ValueError(f"{self.backbone} has {blocks} blocks, not {len(self.widths)} widths")


NetworkConfig = PaperConfig | LiteConfig
PRESETS: dict[str, type[PaperConfig] | type[LiteConfig]] = {
    config.preset: config for config in (PaperConfig, LiteConfig)
}


def config_to_json(config: NetworkConfig) -> dict[str, Any]:
    """Return the config and its preset's name as JSON types."""
    fields = {"preset": config.preset, **asdict(config)}
    if "widths" in fields:
        fields["widths"] = list(fields["widths"])
    return fields


def config_from_json(data: Mapping[str, Any]) -> NetworkConfig:
    """Return the config that :func:`config_to_json` wrote.

    Raises:
        KeyError, TypeError, ValueError: ``data`` is not such a config.
    """
    fields = {key: value for key, value in data.items() if key != "preset"}
    if "widths" in fields:
        fields["widths"] = tuple(fields["widths"])
    config = PRESETS[data["preset"]](**fields)
    for key, value in asdict(config).items():
        if key == "backbone":
            fits = value in BACKBONES
        elif key == "vgg_width":
            fits = type(value) in (int, float) and 0 < value <= 1
        elif key == "widths":
            fits = all(map(_is_width, value))
        else:
            fits = _is_width(value)
        if not fits:
            raise ValueError(f"{key} is {value!r}")
    return config


def _is_width(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST
