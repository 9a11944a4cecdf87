"""Weights of a network before the first step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch

from s2svos.data.clips import ClipSource
from s2svos.network.checkpoint import build, checkpoint_config, read_checkpoint
from s2svos.network.config import LiteConfig, NetworkConfig, config_to_json
from s2svos.network.segmenter import AnySegmenter
from s2svos.shipped import checkpoint_path
from s2svos.training.config import TrainConfig
from s2svos.training.seeds import SeedStream
from s2svos_engines.errors import UserError

CLIPS = 96  # whose first frames set the keys, and which channels are pruned


def starting_network(config: TrainConfig, *, resumed: bool = False) -> AnySegmenter:
    """Build the network of a training, with its starting weights, frozen where that is wanted.

    Args:
        config: of the training.
        resumed: the weights come from the run's own checkpoint, so no other file is read.

    Raises:
        UserError: weights cannot be had, or do not fit the network.
    """
    torch.manual_seed(config.seed)
    network = build(config.network)
    if not resumed:
        if config.init:
            _load_checkpoint(network, checkpoint_path(config.init))
        elif config.backbone.weights != "none":
            network.load_backbone(config.backbone.weights)
    if config.backbone.freeze and not from_scratch(config):
        network.freeze_backbone()
    return network


def with_widths_of(config: TrainConfig, network: NetworkConfig) -> TrainConfig:
    """Return a config whose backbone is as narrow as a pruned one, where it states no widths."""
    own = config.network
    if isinstance(own, LiteConfig) and isinstance(network, LiteConfig) and not own.widths:
        return replace(config, network=replace(own, widths=network.widths))
    return config


def config_of_init(init: str) -> NetworkConfig:
    """Return the config of the checkpoint that a training starts from.

    Args:
        init: one of :data:`s2svos.shipped.CHECKPOINTS`, or a path.

    Raises:
        UserError: it cannot be used.
    """
    path = checkpoint_path(init)
    return checkpoint_config(read_checkpoint(path), path)


def first_frames(source: ClipSource, *, seed: int, size: tuple[int, int]) -> Iterator[torch.Tensor]:
    """Yield first frames of clips like those that will be trained on, uint8 [3, H, W] each."""
    for number in range(CLIPS):
        rng = SeedStream.FIRST_FRAMES.rng(seed, number)
        clip = source.sample(rng, 2, *size)
        yield torch.from_numpy(clip.frames[0]).permute(2, 0, 1)


def from_scratch(config: TrainConfig) -> bool:
    """Return whether the backbone starts from random weights."""
    return config.init is None and config.backbone.weights == "none"


def _load_checkpoint(network: AnySegmenter, path: Path) -> None:
    data = read_checkpoint(path)
    own = network.config
    theirs = checkpoint_config(data, path, size=(own.height, own.width))
    if theirs != own:
        before, after = config_to_json(theirs), config_to_json(own)
        unlike = [key for key in after if before.get(key) != after[key]]
        there = ", ".join(f"{key} {before.get(key)}" for key in unlike)
        here = ", ".join(f"{key} {after[key]}" for key in unlike)
        raise UserError(
            f"{path} is of another network ({there}; here {here}); set network in the config to "
            "its sizes, or begin without --init."
        )
    weights, wanted = data["weights"], network.state_dict()
    for key in sorted(weights.keys() | wanted.keys()):
        old = tuple(weights[key].shape) if key in weights else "missing"
        new = tuple(wanted[key].shape) if key in wanted else "unknown"
        if old != new:
            raise UserError(
                f"{path} does not fit this network: {key} is {old} there and {new} here",
                "use the s2svos that wrote it, or begin without --init",
            )
    network.load_state_dict(weights)
