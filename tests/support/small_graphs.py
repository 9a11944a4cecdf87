"""Every kind of graph of both presets, small; each is exported once a test run.

Those in int8 are as TensorRT takes them.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from s2svos.network.checkpoint import build
from s2svos.network.config import LiteConfig, NetworkConfig, PaperConfig
from s2svos_engines.contract import Counts, StepContract
from s2svos_export.calibrate import Calibrated, calibrate
from s2svos_export.graphs import export_graph
from s2svos_export.quantise import convolutions, quantise_for_gpu

FOLDER = "S2SVOS_SMALL_GRAPHS"  # the environment names it, for all processes (conftest.py)
GRAPHS = ("init", "step", "step4", "batch")
PRECISIONS = ("fp32", "fp16", "int8")
LITE_GAIN = 20
SMALL: dict[str, NetworkConfig] = {
    "lite": LiteConfig(64, 128, hidden=16, first_key=16, last_key=8),
    "paper": PaperConfig(64, 128, channels=32, fc_channels=64, vgg_width=0.125),
}


@cache
def small_network(preset: str) -> torch.nn.Module:
    torch.manual_seed(3)  # of lite, whose masks show both objects then
    network = build(SMALL[preset]).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if preset == "paper":
                # Xavier's gain lets the signal die in 13 ReLU layers, and noise proves nothing.
                parameter.mul_(2**0.5)
            elif name.startswith("decoder.logits"):
                # Untrained, the network says nearly the same of every pixel and object.
                parameter.mul_(LITE_GAIN)
    return network


def small_contract(preset: str) -> StepContract:
    contract = small_network(preset).contract
    assert isinstance(contract, StepContract)
    return contract


@cache
def small_graph(preset: str, graph: str, precision: str = "fp32") -> bytes:
    if precision != "int8":
        return _exported(preset, graph)[precision]
    exact = small_graph(preset, graph)
    if graph == "init":
        return exact
    make = partial(quantise_for_gpu, exact, _calibrated(preset), _weights(preset))
    return made_once(f"{preset}-{graph}-int8", lambda: {"int8": make()})["int8"]


@cache
def _exported(preset: str, graph: str) -> dict[str, bytes]:
    try:
        return _exported_once(preset, graph, wait=False)
    except Timeout:  # another process is at it: meanwhile one that this run will need too
        for other in product(SMALL, GRAPHS):
            with suppress(Timeout):
                _exported_once(*other, wait=False)
        return _exported_once(preset, graph, wait=True)


def _exported_once(preset: str, graph: str, *, wait: bool) -> dict[str, bytes]:
    titles = {one: f"s2svos_{preset}_{graph}_{one}" for one in ("fp32", "fp16")}
    network: Any = small_network(preset)
    make = partial(export_graph, network, graph, titles=titles)
    return made_once(f"{preset}-{graph}", make, wait=wait)


def made_once(
    name: str, make: Callable[[], dict[str, bytes]], *, wait: bool = True
) -> dict[str, bytes]:
    """Graphs by precision, made by the first of the test run's processes that asks for them.

    Raises:
        filelock.Timeout: another process makes them, and this one does not wait for it.
    """
    path = Path(os.environ[FOLDER], f"{name}.pickle")
    with FileLock(path.with_suffix(".lock"), blocking=wait):
        if not path.exists():
            path.write_bytes(pickle.dumps(make()))
    made: dict[str, bytes] = pickle.loads(path.read_bytes())
    return made


@cache
def _calibrated(preset: str) -> dict[str, Calibrated]:
    """The convolutions by inputs of noise."""
    rng = np.random.default_rng(0)
    feed: dict[str, NDArray[np.generic]] = {}
    for spec in small_contract(preset).interface("step").inputs:
        shape = spec.sizes(Counts(objects=2))
        noise = rng.integers(0, 256, shape) if spec.dtype == "uint8" else rng.random(shape)
        feed[spec.name] = noise.astype(spec.dtype)
    return calibrate(small_graph(preset, "step"), [feed])


def _weights(preset: str) -> tuple[str, ...]:
    return convolutions(small_graph(preset, "step"))
