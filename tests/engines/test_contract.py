import json

import pytest

from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.manifest import Manifest

CONTRACT = StepContract(64, 112, (StateSpec("hidden", (8, 4, 7)), StateSpec("cell", (8, 4, 7))))


def test_state_names_sort_alike_and_none_is_a_prefix() -> None:
    inputs = [state.input.name for state in CONTRACT.states]
    outputs = [state.output.name for state in CONTRACT.states]
    order = sorted(range(2), key=inputs.__getitem__)
    assert order == sorted(range(2), key=outputs.__getitem__)
    names = {spec.name for spec in (*CONTRACT.step_inputs, *CONTRACT.step_outputs)}
    assert len(names) == 6
    assert not [(a, b) for a in names for b in names if a != b and a.startswith(b)]


def test_a_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="prefix"):
        StepContract(64, 112, (StateSpec("key", (1,)), StateSpec("key_last", (1,))))


def test_json_round_trip() -> None:
    members = {name: "0" * 64 for name in ("init.onnx", "step.onnx")}
    graphs = {"fp32": {"init": "init.onnx", "step": "step.onnx"}}
    manifest = Manifest(2, CONTRACT, graphs, {}, {}, members, {"opset": 20})
    assert Manifest.from_json(json.dumps(manifest.to_json()).encode()) == manifest
