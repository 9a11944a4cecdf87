"""Files of weights that torch wrote."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from s2svos_engines.errors import UserError
from s2svos_engines.files import need_regular_file


def read_weights(path: Path, *, wanted: str = "a file of weights") -> dict[str, Any]:
    """Return the dictionary in a file that torch wrote.

    Args:
        path: of the file.
        wanted: what it should be, for messages.

    Raises:
        UserError: missing, or no such file.
    """
    try:
        need_regular_file(path)
    except FileNotFoundError as error:
        raise UserError(f"{path} does not exist", f"name {wanted}") from error
    try:
        with warnings.catch_warnings():  # of other formats, which are then refused
            warnings.simplefilter("ignore")
            data = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # junk makes the unpickler raise anything
        raise UserError(f"{path} is damaged or is not {wanted}", "restore it") from error
    if not isinstance(data, dict):
        raise UserError(f"{path} does not hold a state dict", f"name {wanted}")
    return data
