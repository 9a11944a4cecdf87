"""Weights that several graphs of a bundle have in common, kept once.

The graphs of the default network share their backbone: a bundle of all precisions has 23 MB where
it would have 41.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping

import onnx

from s2svos_engines.bundle import Model

MIN_BYTES = 1024  # of a weight that is worth it


def share_weights(
    *graphs: Mapping[str, Mapping[str, bytes]],
) -> tuple[dict[str, dict[str, Model]], ...]:
    """Take the weights that models have in common out of them, for a bundle to keep once.

    Args:
        graphs: each for every precision models by name.
    """
    every = [by_name for one in graphs for by_name in one.values()]
    models = {data: onnx.load_model_from_string(data) for g in every for data in g.values()}
    owners: dict[tuple[str, bytes], set[bytes]] = defaultdict(set)
    for data, model in models.items():
        for weight in model.graph.initializer:
            if weight.ByteSize() >= MIN_BYTES:
                owners[_key(weight)].add(data)
    groups: dict[frozenset[bytes], onnx.ModelProto] = defaultdict(onnx.ModelProto)
    done: set[tuple[str, bytes]] = set()
    for model in models.values():
        kept = []
        for weight in model.graph.initializer:
            key = _key(weight)
            if len(owners[key]) < 2:
                kept.append(weight)
            elif key not in done:
                done.add(key)
                groups[frozenset(owners[key])].graph.initializer.append(weight)
        kept = [onnx.TensorProto.FromString(weight.SerializeToString()) for weight in kept]
        del model.graph.initializer[:]
        model.graph.initializer.extend(kept)
    shared = {group: model.SerializeToString() for group, model in groups.items()}
    pieces = {
        data: Model(
            model.SerializeToString(), tuple(p for group, p in shared.items() if data in group)
        )
        for data, model in models.items()
    }
    return tuple(
        {
            precision: {name: pieces[data] for name, data in by_name.items()}
            for precision, by_name in one.items()
        }
        for one in graphs
    )


def _key(weight: onnx.TensorProto) -> tuple[str, bytes]:
    return weight.name, hashlib.sha256(weight.SerializeToString()).digest()
