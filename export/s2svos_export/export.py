"""Export: graphs, proof, bundle."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.engine import load_engine
from s2svos_engines.errors import UserError
from s2svos_export.graphs import OPSET, StepNetwork, export_graph
from s2svos_export.parity import Parity, compare

LEAST_IOU = 0.999
TOOLS = ("s2svos", "torch", "onnx", "onnxscript")


def export(
    network: StepNetwork,
    out: Path,
    *,
    name: str,
    clip: Iterable[tuple[NDArray[np.uint8], NDArray[np.uint8]]],
    facts: Mapping[str, Any],
    say: Callable[[str], None],
) -> Parity:
    """Exports a network into a bundle, once its graphs track as PyTorch does.

    Args:
        network: keeps the step contract; in evaluation mode, on the CPU.
        out: the bundle, replaced where it exists.
        name: of the network, part of the graphs' names.
        clip: at least 50 frames with the first frame's ids, for the comparison.
        facts: JSON types for the manifest: what the network is and how it was trained.
        say: is told what happens.

    Raises:
        UserError: the graphs' masks differ from PyTorch's, or ``out`` cannot be written.
    """
    graphs = {}
    for graph in ("init", "step"):
        say(f"exporting {graph}")
        graphs[graph] = export_graph(network, graph, title=f"s2svos_{name}_{graph}")
    tools = {tool: version(tool) for tool in TOOLS}
    facts = {**facts, "opset": OPSET, "tools": tools}
    contents: Any = {"contract": network.contract, "graphs": {"fp32": graphs}}
    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / "trial.s2s"
        write_bundle(trial, facts=facts, **contents)
        say("comparing with PyTorch")
        parity = compare(network, load_engine(Bundle.open(trial)), clip)
    if not parity.mean_iou >= LEAST_IOU:
        raise UserError(
            f"The exported masks differ from PyTorch's: mean IoU {parity.mean_iou:.4f}, worst "
            f"{parity.worst_iou:.4f} on frame {parity.worst_frame}; nothing was written. "
            "Report it with the checkpoint."
        )
    try:
        write_bundle(out, facts={**facts, "parity": {"fp32": asdict(parity)}}, **contents)
    except OSError as error:
        raise UserError(
            f"{out} cannot be written ({error.strerror}); choose another -o."
        ) from error
    return parity
