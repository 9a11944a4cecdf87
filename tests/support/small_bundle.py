"""An untrained network of the paper's design, small and quick, and its bundle."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path

import torch
from small_graphs import made_once

from s2svos.network.checkpoint import build
from s2svos.network.config import PaperConfig, config_to_json
from s2svos.network.paper import Paper
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_export.graphs import export_graph

HEIGHT, WIDTH = 64, 96


@cache
def small_network() -> Paper:
    torch.manual_seed(4)
    config = PaperConfig(HEIGHT, WIDTH, channels=16, fc_channels=32, vgg_width=0.05)
    network = build(config)
    assert isinstance(network, Paper)
    for parameter in network.parameters():
        if parameter.ndim == 1:  # the exporter leaves out biases that are zero
            torch.nn.init.uniform_(parameter, 0.0, 0.1)
    return network.eval()


def graph(name: str) -> bytes:
    """A graph in fp32, exported once a test run."""
    title = f"small_{name}"
    make = partial(export_graph, small_network(), name, titles={"fp32": title})
    return made_once(title, make)["fp32"]


def small_bundle(folder: Path) -> Bundle:
    network = small_network()
    facts = {"network": config_to_json(network.config), "parity": {"fp32": {"mean_iou": 1.0}}}
    graphs = {name: graph(name) for name in ("init", "step")}
    path = folder / "small.s2s"
    write_bundle(path, contract=network.contract, graphs={"fp32": graphs}, facts=facts)
    return Bundle.open(path)
