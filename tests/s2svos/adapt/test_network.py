"""A bundle's graphs as a network in PyTorch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from small_bundle import HEIGHT, WIDTH, small_bundle, small_network
from torch import Tensor

import s2svos
from s2svos.adapt.network import BundleNetwork
from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.registry import load_engine
from s2svos_export.drift import Drift
from s2svos_export.drift_measure import measure_drift


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("small"))


def written(path: Path, bundle: Bundle, graphs: dict[str, bytes]) -> Bundle:
    write_bundle(path, contract=bundle.contract, graphs={"fp32": graphs}, facts={})
    return Bundle.open(path)


def start(objects: int = 2) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(1)
    frame = torch.randint(0, 256, (HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=rng)
    masks = torch.zeros(objects, HEIGHT, WIDTH, dtype=torch.uint8)
    masks[0, 10:40, 20:60], masks[-1, 30:60, 50:90] = 255, 255
    return frame, masks


def test_the_bundle_that_ships_is_followed_as_its_engine_does(tmp_path: Path) -> None:
    """Also with other weights, which must arrive in both of the graphs that are written."""
    bundle = Bundle.open(s2svos.default_bundle())
    network = BundleNetwork(bundle)
    clip = list(render(length=5))

    def drift(bundle: Bundle) -> Drift:
        engines = [load_engine(bundle)]
        (one,) = measure_drift(network, engines, clip, source="rendered", frames=4).drifts
        return one

    def state_error(drift: Drift) -> float:
        return max(drift.free_running.tensors[name].largest for name in drift.init)

    same = drift(bundle)
    assert same.mean_iou > 0.999
    assert state_error(same) < 0.01

    generator = torch.Generator().manual_seed(0)
    for weight in network.weights.values():
        weight.mul_(1 + 0.02 * torch.randn(weight.shape, generator=generator))
    assert drift(written(tmp_path / "other.s2s", bundle, network.graphs())).mean_iou > 0.999
    assert state_error(drift(bundle)) > 0.05


def test_the_bundle_that_ships_has_a_frozen_part_and_a_larger_one_to_tune() -> None:
    network = BundleNetwork(Bundle.open(s2svos.default_bundle()))
    assert network.recurrent and network.recurrent <= network.weights.keys()
    sizes = {name: weight.numel() for name, weight in network.weights.items()}
    assert sum(sizes[name] for name in network.recurrent) < 0.5 * sum(sizes.values())


def test_the_papers_convlstm_is_found(bundle: Bundle) -> None:
    assert BundleNetwork(bundle).recurrent == {"network.gates.weight", "network.gates.bias"}


def test_logits_and_gradients_are_those_of_the_network_that_was_exported(bundle: Bundle) -> None:
    original, rebuilt = small_network(), BundleNetwork(bundle)
    frame, masks = start()
    for weight in rebuilt.weights.values():
        weight.requires_grad_()
    logits, _ = rebuilt.advance(frame, *rebuilt.init(frame, masks))
    logits.square().sum().backward()  # type: ignore[no-untyped-call]

    features = original.features(frame.permute(2, 0, 1)[None].float())
    expected, _ = original.advance(features, original.start(features, masks[:, None] / 255))
    original.zero_grad()
    expected.square().sum().backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(logits, expected[:, 0], rtol=1e-4, atol=1e-6)
    gradients = {f"network.{name}": p.grad for name, p in original.named_parameters()}
    assert gradients.keys() == rebuilt.weights.keys()
    for name, weight in rebuilt.weights.items():
        torch.testing.assert_close(weight.grad, gradients[name], rtol=1e-3, atol=1e-6)


def test_masks_are_the_sigmoid_of_the_logits(bundle: Bundle) -> None:
    network = BundleNetwork(bundle)
    frame, masks = start()
    states = network.init(frame, masks)
    logits, _ = network.advance(frame, *states)
    found = network.step(frame, *states)[0]
    assert (found.int() - (255 * torch.sigmoid(logits) + 0.5).int()).abs().max() <= 1


def test_other_weights_give_the_graphs_other_titles(bundle: Bundle) -> None:
    """Engine caches know graphs by their titles."""
    network = BundleNetwork(bundle)

    def titles() -> set[str]:
        models = map(onnx.load_from_string, network.graphs().values())
        return {model.graph.name for model in models}

    before = titles()
    assert before == titles() and len(before) == 2
    next(iter(network.weights.values())).add_(0.1)
    assert not before & titles()


@pytest.mark.parametrize("shipped", [False, True])
def test_nothing_stays_behind_on_the_processor(bundle: Bundle, shipped: bool) -> None:
    """The meta device, like a GPU, refuses to mix its tensors with those of the CPU."""
    network = BundleNetwork(
        Bundle.open(s2svos.default_bundle()) if shipped else bundle, torch.device("meta")
    )
    contract = network.contract
    frame = torch.zeros(contract.height, contract.width, 3, dtype=torch.uint8, device="meta")
    masks = torch.zeros(3, contract.height, contract.width, dtype=torch.uint8, device="meta")
    logits, states = network.advance(frame, *network.init(frame, masks))
    assert logits.shape == masks.shape
    assert {tensor.device.type for tensor in (logits, *states)} == {"meta"}


def edited(bundle: Bundle, **changes: object) -> dict[str, bytes]:
    graphs = {name: onnx.load_from_string(bundle.graph(name)) for name in ("init", "step")}
    for name, change in changes.items():
        change(graphs[name])  # type: ignore[operator]
    return {name: model.SerializeToString() for name, model in graphs.items()}


def test_a_name_may_mean_different_weights_in_the_two_graphs(
    bundle: Bundle, tmp_path: Path
) -> None:
    shared = "network.gates.bias"

    def rename(model: onnx.ModelProto) -> None:
        old = next(t.name for t in model.graph.initializer if t.name.endswith("fc6.bias"))
        for tensor in model.graph.initializer:
            tensor.name = shared if tensor.name == old else tensor.name
        for node in model.graph.node:
            node.input[:] = [shared if name == old else name for name in node.input]

    changed = written(tmp_path / "renamed.s2s", bundle, edited(bundle, init=rename))
    network = BundleNetwork(changed)
    assert network.recurrent == {"network.gates.weight", f"step/{shared}"}
    network.weights[shared].zero_()
    network.weights[f"step/{shared}"].fill_(7)
    for name, value in (("init", 0), ("step", 7)):
        tensors = onnx.load_from_string(network.graphs()[name]).graph.initializer
        (tensor,) = [t for t in tensors if t.name == shared]
        assert (numpy_helper.to_array(tensor) == value).all()


def test_frames_reach_the_engine_at_its_own_size(bundle: Bundle, tmp_path: Path) -> None:
    """What is written runs on the normal engines."""
    network = BundleNetwork(bundle)
    engine = load_engine(written(tmp_path / "same.s2s", bundle, network.graphs()))
    frame, masks = start()
    states = engine.init(frame.numpy(), masks.numpy())
    found = engine.runner(states).step(frame.numpy())
    expected = network.step(frame, *network.init(frame, masks))[0]
    assert np.abs(found.astype(int) - expected.numpy().astype(int)).max() <= 1
