"""What the processes of a training tell each other, and their random states."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, distributed


def everyone(fabric: Fabric, items: list[Any]) -> list[Any]:
    """The lists of all processes joined, in the order of their ranks; all must call it."""
    if fabric.world_size == 1:
        return items
    gathered: list[Any] = [None] * fabric.world_size
    distributed.all_gather_object(gathered, items)
    return [item for part in gathered for item in part]


def mean_of_all(fabric: Fabric, values: Tensor) -> list[float]:
    """The mean of each value over all processes; all must call it. float [N] to N numbers."""
    reduced = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(reduced, Tensor)
    numbers: list[float] = reduced.tolist()
    return numbers


def random_state() -> dict[str, Any]:
    """The state of every global random generator, in types that ``torch.load`` trusts."""
    legacy: Any = np.random.get_state()
    kind, keys, *rest = legacy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Goes back to what :func:`random_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
