"""Every kind of graph of both presets, small; each is exported once a test run."""

from __future__ import annotations

from functools import cache

import torch
from test_export import SMALL

from s2svos.network.checkpoint import build
from s2svos_engines.contract import StepContract
from s2svos_export.graphs import export_graph

GRAPHS = ("init", "step", "step4")
PRECISIONS = ("fp32", "fp16")


@cache
def small_network(preset: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return build(SMALL[preset]).eval()


def small_contract(preset: str) -> StepContract:
    contract = small_network(preset).contract
    assert isinstance(contract, StepContract)
    return contract


@cache
def small_graph(preset: str, graph: str, precision: str = "fp32") -> bytes:
    title = f"{preset}_{graph}_{precision}"
    return export_graph(small_network(preset), graph, title=title, precision=precision)  # type: ignore[arg-type]
