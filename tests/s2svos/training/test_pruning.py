from copy import deepcopy

import numpy as np
import pytest
import torch

from s2svos.network.config import BACKBONES, LiteConfig, config_from_json, config_to_json
from s2svos.network.efficientnet import EfficientNet, published_widths
from s2svos.network.lite import Lite
from s2svos.training.distillation import Distillation
from s2svos.training.pruning import BlockOrder, choose_widths, prune, removal_order


def frames(count: int, seed: int = 0) -> torch.Tensor:
    """Smooth pictures, uint8 [count, 3, 64, 128]."""
    torch.manual_seed(seed)
    small = torch.rand(count, 3, 8, 16) * 255
    return torch.nn.functional.interpolate(small, (64, 128), mode="bicubic").clamp(0, 255).byte()


@pytest.fixture(scope="module")
def imagenet() -> Lite:
    network = Lite(LiteConfig(64, 128, hidden=16, first_key=16, last_key=8))
    network.load_backbone("imagenet")
    return network.eval()


@pytest.fixture(scope="module")
def start(imagenet: Lite) -> Lite:
    """Half of it, for distillation; it takes seconds."""
    return prune(imagenet, frames(8), 0.5)


def test_the_published_widths() -> None:
    widths = published_widths("efficientnet-lite0")
    blocks = EfficientNet("efficientnet-lite0").blocks
    assert widths == tuple(block.dw.in_channels for block in blocks)
    assert widths[:4] == (32, 96, 144, 144)
    assert widths[-1] == 1152


def test_widths_are_of_every_block() -> None:
    for backbone, blocks in BACKBONES.items():
        assert len(published_widths(backbone)) == blocks
    fields = config_to_json(LiteConfig())
    with pytest.raises(ValueError, match="has 15 blocks, not 2 widths"):
        config_from_json(fields | {"widths": [16, 16]})
    with pytest.raises(ValueError, match="widths is"):
        config_from_json(fields | {"widths": [0] * 15})


def test_what_others_can_make_up_for_goes_first() -> None:
    """Of three inputs the second is half the first, and the third is alone."""
    points = torch.randn(4000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points[:, 1] = points[:, 0] / 2 + 1e-3 * points[:, 1]
    weights = torch.tensor([[1.0, 2.0, 0.1]], dtype=torch.float64)
    order, losses = removal_order(points.T.cov(), weights)
    assert order[0] in (0, 1)
    assert losses[1] < 1e-4
    assert order[1] == 2  # small though its loss cannot be made up for
    assert losses[2] == pytest.approx(0.01, rel=0.1)


def test_the_losses_are_those_of_a_new_fit() -> None:
    generator = torch.Generator().manual_seed(2)
    points = torch.randn(500, 12, dtype=torch.float64, generator=generator)
    points = points @ torch.randn(12, 12, dtype=torch.float64, generator=generator)
    weights = torch.randn(5, 12, dtype=torch.float64, generator=generator)
    covariance = points.T @ points / 500
    order, losses = removal_order(covariance, weights)
    kept = [i for i in range(12) if i not in order[:7]]
    wanted = points @ weights.T
    fitted = torch.linalg.lstsq(points[:, kept], wanted).solution
    error = (points[:, kept] @ fitted - wanted).square().sum() / 500
    assert losses[7] == pytest.approx(float(error), rel=1e-6)
    assert len(order) == 11
    assert len(losses) == 12


def test_channels_go_where_they_cost_most_and_matter_least() -> None:
    rising = (np.arange(64) / 64) ** 2
    dear, cheap, needed = (
        BlockOrder(list(range(63)), losses, cost)
        for losses, cost in ((rising, 10.0), (rising, 1.0), (1000 * rising, 10.0))
    )
    widths = choose_widths([dear, cheap, needed], 0.8)
    assert widths[0] < widths[1]
    assert widths[2] == 64
    assert all(width % 16 == 0 for width in widths)
    assert sum(w * o.cost for w, o in zip(widths, (dear, cheap, needed), strict=True)) <= 0.8 * 1344
    assert list(dear.kept(2)) == [62, 63]


def test_a_pruned_network_is_narrower_and_near_the_whole_one(imagenet: Lite) -> None:
    before = {key: value.clone() for key, value in imagenet.state_dict().items()}
    pruned = prune(imagenet, frames(24), 0.7)
    whole, narrow = imagenet.encoder.backbone, pruned.encoder.backbone
    assert config_from_json(config_to_json(pruned.config)) == pruned.config
    assert sum(pruned.config.widths) < 0.9 * sum(published_widths("efficientnet-lite0"))
    assert all(torch.equal(value, before[key]) for key, value in imagenet.state_dict().items())
    x = frames(4, seed=9).float() / 127.5 - 1
    cut = Lite(pruned.config)  # the same channels with random weights explain nothing
    with torch.inference_mode():
        for made, wanted, random in zip(
            narrow(x), whole(x), cut.eval().encoder.backbone(x), strict=True
        ):
            variance = wanted.var((0, 2, 3)).sum()
            assert (made - wanted).square().mean((0, 2, 3)).sum() < 0.5 * variance
            assert (random - wanted).square().mean((0, 2, 3)).sum() > 0.5 * variance


def test_distillation_brings_the_maps_nearer(imagenet: Lite, start: Lite) -> None:
    pruned = _copy(start)
    distillation = Distillation(pruned, imagenet, steps=12, lr=1e-4)
    keys = pruned.encoder.keys.key8.weight.clone()
    losses = [distillation.run(frames(4, seed=5)) for _ in range(12)]
    assert min(losses[-3:]) < 0.9 * losses[0]
    assert torch.equal(distillation.average.encoder.keys.key8.weight, keys)


def test_distillation_goes_on_where_it_was(imagenet: Lite, start: Lite) -> None:
    one = Distillation(_copy(start), imagenet, steps=4, lr=1e-3)
    for seed in range(2):
        one.run(frames(2, seed))
    state = deepcopy(one.state())
    average = {key: value.clone() for key, value in one.average.state_dict().items()}
    other = Distillation(_copy(start), imagenet, steps=4, lr=1e-3)
    other.restore(state, average)
    for seed in range(2, 4):
        a, b = one.run(frames(2, seed)), other.run(frames(2, seed))
        assert a == pytest.approx(b)
    for key, value in one.average.state_dict().items():
        torch.testing.assert_close(value, other.average.state_dict()[key])


def _copy(network: Lite) -> Lite:
    copy = Lite(network.config)
    copy.load_state_dict(network.state_dict())
    return copy
