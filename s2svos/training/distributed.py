"""Processes and devices of a training, their random states, and the version of the code."""

from __future__ import annotations

import logging
import os
import random
import subprocess
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor, distributed

import s2svos
from s2svos.training.config import TrainConfig
from s2svos_engines.errors import UserError

_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def open_devices(config: TrainConfig) -> Fabric:
    """Choose the devices; the other processes of this machine start with ``Fabric.launch``.

    Under torchrun their number and that of the machines are what torchrun was told.

    Raises:
        UserError: the machine lacks the devices or the precision, or batches cannot be shared.
    """
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    gpu = torch.cuda.is_available()
    devices, nodes = config.devices, 1
    if distributed.is_available() and distributed.is_torchelastic_launched():
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    if gpu and devices > torch.cuda.device_count():
        raise UserError(
            f"{devices} devices are wanted but this machine has {torch.cuda.device_count()} GPUs",
            "lower --devices",
        )
    world = devices * nodes
    for phase in config.phases:
        if phase.batch % (world * config.grad_accumulation):
            raise UserError(
                (
                    f"A batch of {phase.batch} clips cannot be shared by {world} devices in "
                    f"{config.grad_accumulation} equal parts each"
                ),
                "change --batch-size, --devices or --accumulate",
            )
    return Fabric(
        accelerator="cuda" if gpu else "cpu",
        devices=devices,
        num_nodes=nodes,
        strategy=DDPStrategy() if world > 1 else "auto",
        precision=_PRECISION[_precision(config.precision, gpu=gpu)],
    )


def _precision(wanted: str, *, gpu: bool) -> str:
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if gpu else True
    if wanted == "auto":
        return "bf16" if gpu and bf16 else "fp32"
    if wanted == "fp16" and not gpu:
        raise UserError("fp16 needs a GPU", "choose --precision bf16 or fp32")
    if wanted == "bf16" and not bf16:
        raise UserError("This GPU has no bf16", "choose --precision fp16 or fp32")
    return wanted


def everyone(fabric: Fabric, items: list[Any]) -> list[Any]:
    """Join the lists of all processes, in the order of their ranks; all must call it."""
    if fabric.world_size == 1:
        return items
    gathered: list[Any] = [None] * fabric.world_size
    distributed.all_gather_object(gathered, items)
    return [item for part in gathered for item in part]


def mean_of_all(fabric: Fabric, values: Tensor) -> list[float]:
    """Return the means of N values, float [N], over all processes; all must call it."""
    reduced = fabric.all_reduce(values, reduce_op="mean")
    assert isinstance(reduced, Tensor)
    numbers: list[float] = reduced.tolist()
    return numbers


def random_state() -> dict[str, Any]:
    """Return the state of every global random generator, in types that ``torch.load`` trusts."""
    legacy: Any = np.random.get_state()
    kind, keys, *rest = legacy
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(keys.astype(np.int64)), *rest),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Go back to what :func:`random_state` gave."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
    random.setstate(state["python"])
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))


def code_version() -> dict[str, str | None]:
    """Return the versions of package and PyTorch, and the commit of a checkout."""
    package = Path(s2svos.__file__).parent
    commit = None
    if (package.parent / ".git").exists():
        command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
            commit = done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            commit = None
    return {"s2svos": s2svos.__version__, "commit": commit, "torch": str(torch.__version__)}
