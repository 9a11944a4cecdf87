"""Building networks, and the checkpoints that hold their weights."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from s2svos.network.config import NetworkConfig, PaperConfig, config_from_json, config_to_json
from s2svos.network.lite import Lite
from s2svos.network.paper import Paper
from s2svos_engines.errors import UserError

FORMAT = 1


def build(config: NetworkConfig) -> Lite | Paper:
    """An untrained network."""
    return Paper(config) if isinstance(config, PaperConfig) else Lite(config)


def save_atomically(data: dict[str, Any], path: Path) -> None:
    """Writes beside ``path`` and renames, so that a reader never sees half a file."""
    beside = path.with_name(path.name + ".part")
    torch.save(data, beside)
    os.replace(beside, path)


def save_checkpoint(
    path: Path,
    *,
    config: NetworkConfig,
    weights: dict[str, Tensor],
    facts: dict[str, Any],
    resume: dict[str, Any] | None = None,
) -> None:
    """Writes a checkpoint.

    Args:
        path: of the file.
        config: what the network is built from.
        weights: its state dict.
        facts: JSON types that say how the weights were made.
        resume: the trainer's own state.
    """
    data = {
        "format": FORMAT,
        "network": config_to_json(config),
        "weights": weights,
        "facts": facts,
        "resume": resume,
    }
    save_atomically(data, path)


def read_weights(path: Path) -> dict[str, Any]:
    """The dictionary in a file that torch wrote.

    Raises:
        UserError: missing, or no such file.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; name a file that torch.save wrote.")
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError, pickle.UnpicklingError) as error:
        raise UserError(f"{path} does not hold weights or is damaged; restore it.") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} does not hold a state dict; name another file.")
    return data


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The checkpoint's fields as :func:`save_checkpoint` wrote them.

    Raises:
        UserError: missing, unreadable or of another format.
    """
    data = read_weights(path)
    if not {"format", "network", "weights"} <= data.keys():
        raise UserError(f"{path} is not an s2svos checkpoint; name one that s2svos train wrote.")
    if data["format"] != FORMAT:
        raise UserError(
            f"{path} has checkpoint format {data['format']}, this s2svos reads {FORMAT}; "
            "use the s2svos that wrote it."
        )
    return data


def load_network(path: Path, *, size: tuple[int, int] | None = None) -> Lite | Paper:
    """The network of a checkpoint, ready for inference.

    Args:
        path: of the checkpoint.
        size: height and width in pixels, where not the checkpoint's own.

    Raises:
        UserError: the checkpoint cannot be used, or the size is not a multiple of the stride.
    """
    data = read_checkpoint(path)
    fields = dict(data["network"])
    if size:
        fields["height"], fields["width"] = size
    try:
        config = config_from_json(fields)
    except (KeyError, TypeError) as error:
        raise UserError(
            f"{path} describes a network that this s2svos does not know ({error}); "
            "use the s2svos that wrote it."
        ) from error
    if config.height % config.stride or config.width % config.stride:
        raise UserError(
            f"{config.height}x{config.width} does not fit the {config.preset} network; "
            f"choose a height and width that are multiples of {config.stride}."
        )
    network = build(config)
    try:
        network.load_state_dict(data["weights"])
    except RuntimeError as error:
        raise UserError(
            f"{path} does not hold all weights of its network; train it again."
        ) from error
    return network.eval()
