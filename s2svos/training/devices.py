"""The processes and devices of a training, through Lightning Fabric."""

from __future__ import annotations

import logging
import os
from typing import Literal

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import distributed

from s2svos.training.config import TrainConfig
from s2svos_engines.errors import UserError

_PRECISION: dict[str, Literal["32-true", "bf16-mixed", "16-mixed"]] = {
    "fp32": "32-true",
    "bf16": "bf16-mixed",
    "fp16": "16-mixed",
}


def open_devices(config: TrainConfig) -> Fabric:
    """Chooses the devices; the other processes of this machine start with ``Fabric.launch``.

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
            f"{devices} devices are wanted but this machine has {torch.cuda.device_count()} GPUs; "
            "lower --devices."
        )
    world = devices * nodes
    for phase in config.phases:
        if phase.batch % (world * config.accumulate):
            raise UserError(
                f"A batch of {phase.batch} clips cannot be shared by {world} devices in "
                f"{config.accumulate} equal parts each; change --batch-size, --devices or "
                "--accumulate."
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
        raise UserError("fp16 needs a GPU; choose --precision bf16 or fp32.")
    if wanted == "bf16" and not bf16:
        raise UserError("This GPU has no bf16; choose --precision fp16 or fp32.")
    return wanted
