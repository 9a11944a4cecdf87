"""Building networks, and the checkpoints that hold their weights."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2svos.network.config import NetworkConfig, PaperConfig, config_from_json, config_to_json
from s2svos.network.lite import Lite
from s2svos.network.paper import Paper
from s2svos.network.segmenter import AnySegmenter
from s2svos.network.weights import read_weights
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, written_beside

FORMAT = 1
GO_ON = "go on with --resume"  # the remedy for a full disk
_CHECKPOINT = "a checkpoint that s2svos train wrote"


def build(config: NetworkConfig) -> AnySegmenter:
    """Build an untrained network."""
    return Paper(config) if isinstance(config, PaperConfig) else Lite(config)


def save_checkpoint(
    path: Path,
    *,
    config: NetworkConfig,
    weights: Mapping[str, Tensor],
    facts: dict[str, Any],
    resume: dict[str, Any] | None = None,
) -> None:
    """Write a checkpoint, whole or not at all.

    Args:
        path: of the file.
        config: what the network is built from.
        weights: its state dict.
        facts: JSON types that say how the weights were made.
        resume: the trainer's own state.

    Raises:
        UserError: it cannot be written; nothing is left of it.
    """
    data = {
        "format": FORMAT,
        "network": config_to_json(config),
        "weights": dict(weights),
        "facts": facts,
        "resume": resume,
    }
    try:
        with disk_errors(path, again=GO_ON), written_beside(path) as part, part.open("wb") as file:
            torch.save(data, file)
            file.flush()
            os.fsync(file.fileno())  # or a machine that fails keeps the name and not the bytes
    except RuntimeError as error:  # of torch's zip writer
        raise UserError(
            f"{path} cannot be written: the disk may be full", f"free some space and {GO_ON}"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the checkpoint's fields as :func:`save_checkpoint` wrote them.

    Raises:
        UserError: missing, unreadable or of another format.
    """
    data = read_weights(path, wanted=_CHECKPOINT)
    if not {"format", "network", "weights"} <= data.keys():
        raise UserError(f"{path} is not an s2svos checkpoint", f"name {_CHECKPOINT}")
    if data["format"] != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {data['format']}, this s2svos reads {FORMAT}",
            "use the s2svos that wrote it",
        )
    return data


def checkpoint_config(
    data: dict[str, Any], path: Path, *, size: tuple[int, int] | None = None
) -> NetworkConfig:
    """Return the config of a checkpoint's network.

    Args:
        data: of :func:`read_checkpoint`.
        path: for messages.
        size: height and width in pixels, where not the checkpoint's own.

    Raises:
        UserError: the network is unknown, or the size is not a multiple of its stride.
    """
    try:
        fields = dict(data["network"])
        if size:
            fields["height"], fields["width"] = size
        config = config_from_json(fields)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} describes a network that this s2svos does not know ({error})",
            "use the s2svos that wrote it",
        ) from error
    if config.height % config.stride or config.width % config.stride:
        raise UserError(
            f"{config.height}x{config.width} does not fit the {config.preset} network",
            f"choose a height and width that are multiples of {config.stride}",
        )
    return config


def load_network(path: Path, *, size: tuple[int, int] | None = None) -> AnySegmenter:
    """Build the network of a checkpoint, ready for inference.

    Args:
        path: of the checkpoint.
        size: height and width in pixels, where not the checkpoint's own.

    Raises:
        UserError: the checkpoint cannot be used, or the size is not a multiple of the stride.
    """
    data = read_checkpoint(path)
    network = build(checkpoint_config(data, path, size=size))
    try:
        network.load_state_dict(data["weights"])
    except (AttributeError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"{path} does not hold all weights of its network", "train it again"
        ) from error
    return network.eval()
