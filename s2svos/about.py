"""What a bundle is, as data."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from s2svos_engines.bundle import Bundle
from s2svos_engines.tensorrt.plans import Plan


def about(bundle: Bundle) -> dict[str, Any]:
    """All that is to be known about a bundle, as JSON types.

    Args:
        bundle: checked bundle.

    Returns:
        ``path``, ``bytes``, ``sha256``, ``format``; ``contract``, with the inputs and outputs of
        each graph and the bytes of an object's state; ``precisions``, with each graph's member and
        bytes; ``gpu_graphs``, likewise those that engines on a GPU run instead; ``plans``;
        ``parity``; ``drift``, a line for each clip, engine and precision; ``network``, ``training``
        and ``tools`` as the manifest has them.
    """
    contract, manifest = bundle.contract, bundle.manifest
    with zipfile.ZipFile(bundle.path) as archive:
        sizes = {one.filename: one.file_size for one in archive.infolist()}
    names = (bundle.graph_names(precision) for precision in bundle.precisions)
    graphs = dict.fromkeys(name for each in names for name in each)
    return {
        "path": str(bundle.path),
        "bytes": bundle.path.stat().st_size,
        "sha256": bundle.sha256,
        "format": manifest.format,
        "contract": {
            "height": contract.height,
            "width": contract.width,
            "graphs": {graph: asdict(contract.interface(graph)) for graph in graphs},
            "state_bytes": sum(
                math.prod(state.shape) * np.dtype(state.dtype).itemsize for state in contract.states
            ),
        },
        "precisions": _members(manifest.graphs, sizes),
        "gpu_graphs": _members(manifest.gpu_graphs, sizes),
        "plans": [
            {**plan.to_json(), "for": str(plan.target), "bytes": sizes[plan.member]}
            for plan in map(Plan.from_json, manifest.plans)
        ],
        "parity": manifest.parity,
        "drift": _drift_facts(bundle),
        "network": manifest.network,
        "training": manifest.training,
        "tools": manifest.tools,
    }


def _members(
    graphs: Mapping[str, Mapping[str, str]], sizes: Mapping[str, int]
) -> dict[str, dict[str, dict[str, Any]]]:
    return {
        precision: {
            graph: {"member": member, "bytes": sizes[member]} for graph, member in members.items()
        }
        for precision, members in graphs.items()
    }


def _drift_facts(bundle: Bundle) -> list[dict[str, Any]]:
    # The export's package is needed by this report alone.
    from s2svos_export.drift import read_drift

    return [
        {
            "clip": report.source,
            "engine": one.engine,
            "precision": one.precision,
            "graph": one.graph,
            "frames": report.frames,
            "mean_iou": one.mean_iou,
            "worst_iou": one.worst_iou,
            "worst_frame": one.worst_frame,
        }
        for report in read_drift(bundle)
        for one in report.drifts
    ]
