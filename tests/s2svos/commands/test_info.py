"""``s2svos info``: what a bundle says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from math import prod
from pathlib import Path

import pytest
from typer.testing import CliRunner

import s2svos
from s2svos.about import about
from s2svos.cli import app
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.tensorrt.plans import Plan, Target
from s2svos_export.drift import DRIFT, Drift, DriftReport, Errors, TensorErrors, write_drift


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return Bundle.open(s2svos.default_bundle())


def shown(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["info", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_it_tells_of_the_bundle_that_ships(shipped: Bundle) -> None:
    text = shown("--all")
    assert shipped.sha256 in text
    for section in ("Contract", "Precisions", "TensorRT plans", "Parity with PyTorch", "Training"):
        assert f"\n{section}\n" in text
    for state in shipped.contract.states:
        assert state.input.name in text
        assert state.output.name in text
    for precision in shipped.precisions:
        assert f"\n{precision}  " in text
    assert "lite" in text
    assert "bear" in text


def test_it_is_short_unless_all_is_asked_for(shipped: Bundle) -> None:
    text = shown()
    assert shipped.sha256 in text
    assert "Precisions" in text
    assert "Contract" not in text
    assert text.count("\n") < 25


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_profile_names_the_layers_and_what_they_take(engine: str) -> None:
    arguments = ("--profile", "--json", "--engine", engine, "--objects", 2)
    found = json.loads(shown(*arguments))
    assert (found["engine"], found["precision"], found["objects"]) == (engine, "fp32", 2)
    layers = found["layers"]
    assert sum(layer["share"] for layer in layers) == pytest.approx(1)
    assert layers == sorted(layers, key=lambda layer: -layer["milliseconds"])
    assert all(layer["milliseconds"] > 0 for layer in layers)
    if engine == "openvino":
        (gates,) = [layer for layer in layers if layer["name"] == "cell.gates"]
        # 3x3 of 48 channels to 4 x 64 at 16x28 places, of two objects; two FLOPs a product.
        assert gates["megaflops"] == pytest.approx(2 * 9 * 48 * 256 * 16 * 28 * 2 / 1e6)
        assert gates["of_peak"] > 0


def test_a_profile_is_a_table_too() -> None:
    text = shown("--profile")
    assert "A step of 1 object on openvino in fp32" in text
    assert "\ncell.gates" in text
    assert "\nKinds\n" in text


def test_pytorch_has_no_counters() -> None:
    result = CliRunner().invoke(app, ["info", "--profile", "--engine", "torch"])
    assert isinstance(result.exception, s2svos.UserError)
    assert "does not tell the time of its layers" in str(result.exception)


def test_json_has_all_of_it(shipped: Bundle) -> None:
    facts = json.loads(shown("--json"))
    assert facts == json.loads(json.dumps(about(shipped)))
    assert facts["bytes"] == shipped.path.stat().st_size
    assert facts["training"] == shipped.manifest.training
    assert facts["parity"] == shipped.manifest.parity
    assert set(facts["contract"]["graphs"]) >= {"init", "step"}
    sizes = [graph["bytes"] for one in facts["precisions"].values() for graph in one.values()]
    assert 0 < sum(sizes) <= facts["bytes"]
    assert facts["gpu_graphs"].keys() == {"int8"}
    assert facts["gpu_graphs"]["int8"]["step"] != facts["precisions"]["int8"]["step"]
    state = facts["contract"]["state_bytes"]
    assert state == sum(4 * prod(one.shape) for one in shipped.contract.states)


@pytest.fixture(scope="module")
def planned(shipped: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a plan and a drift report."""
    path = tmp_path_factory.mktemp("planned") / "p.s2s"
    target = Target("tensorrt", "11.0.0", ("9.0",), "NVIDIA H200", "580.65.6")
    plan = Plan("plans/h200/step.plan", "step", "fp32", 8, target)
    errors = {"object_masks": TensorErrors((0.5,), (0.25,))}
    calls = Errors((1,), ((0.75, 1.0),), errors)
    drift = Drift("openvino", "int8", "step", ((0.75, 1.0),), errors, calls, calls)
    report = DriftReport("park.mp4", 1, (1, 2), 0.95, 1.0, {"object_masks": 1.0}, (drift,))
    graphs = {name: shipped.graph(name) for name in ("init", "step")}
    write_bundle(
        path,
        contract=shipped.contract,
        graphs={"fp32": graphs},
        facts={"plans": [plan.to_json()], "training": {"runs": [{"steps": 3}, {"steps": 4}]}},
        others={plan.member: b"x" * 2_500_000, DRIFT: write_drift([report])},
    )
    return path


def test_plans_and_drift_are_told(planned: Path) -> None:
    text = shown(planned, "--all")
    plans = text.partition("TensorRT plans\n")[2].splitlines()[0]
    for word in ("fp32", "step", "8 objects", "2.5 MB", "TensorRT 11.0.0", "NVIDIA H200", "580.65"):
        assert word in plans
    drift = text.partition("Drift from PyTorch\n")[2].splitlines()[0]
    for word in ("int8", "openvino", "0.8750", "of park.mp4", "0.7500 on frame 1"):
        assert word in drift
    assert "runs.1.steps  4" in text
    assert "Parity" not in text
    facts = json.loads(shown(planned, "--json"))
    assert facts["plans"][0]["bytes"] == 2_500_000
    assert facts["drift"][0]["mean_iou"] == 0.875


def test_a_damaged_bundle_is_a_sentence(shipped: Bundle, tmp_path: Path) -> None:
    data = bytearray(shipped.path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "d.s2s").write_bytes(data)
    for name, words in (("d.s2s", "is damaged"), ("gone.s2s", "does not exist")):
        command = [sys.executable, "-m", "s2svos", "info", name]
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
        assert run.returncode == 2
        assert words in run.stderr
        assert run.stderr.count("\n") == 1
        assert not run.stdout
