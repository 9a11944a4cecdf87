"""The networks that ship, by their names."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import s2svos
from s2svos.cli import app
from s2svos.network.checkpoint import load_network
from s2svos.network.config import LiteConfig
from s2svos.network.efficientnet import published_widths
from s2svos.sample.render import render
from s2svos.shipped import BUNDLES, CHECKPOINTS, bundle_path, checkpoint_path
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine


def test_names_are_paths() -> None:
    assert bundle_path() == bundle_path(None) == bundle_path("lite") == s2svos.default_bundle()
    assert bundle_path(Path("lite-hq")).name == "lite-hq.s2s"
    assert bundle_path("my/lite.s2s") == bundle_path(Path("my/lite.s2s")) == Path("my/lite.s2s")
    assert checkpoint_path("lite").name == "lite.pt"
    assert checkpoint_path(Path("run/final.pt")) == Path("run/final.pt")
    assert all(bundle_path(name).is_file() for name in BUNDLES)


@pytest.mark.parametrize("name", BUNDLES)
def test_the_checkpoint_is_the_network_of_the_bundles(name: str) -> None:
    bundle = Bundle.open(bundle_path(name))
    contract = bundle.contract
    size = contract.height, contract.width
    weights = name if name in CHECKPOINTS else "lite"
    network = load_network(checkpoint_path(weights), size=size)
    (frame, ids), (following, _) = render(length=2, height=size[0], width=size[1])
    masks = np.stack([np.uint8(255) * (ids == one) for one in (1, 2)])
    engine = load_engine(bundle, "onnxruntime", threads=1)
    found = engine.runner(engine.init(frame, masks)).step(following)
    with torch.inference_mode():
        states = network.init(torch.from_numpy(frame), torch.from_numpy(masks))
        wanted = network.step(torch.from_numpy(following), *states)[0].numpy()
    assert (np.abs(found.astype(int) - wanted) > 2).mean() < 1e-3


def test_the_larger_one_sees_more_and_has_all_precisions() -> None:
    lite, finer = (Bundle.open(bundle_path(name)) for name in ("lite", "lite-hq"))
    assert (lite.contract.height, lite.contract.width) == (256, 448)
    assert (finer.contract.height, finer.contract.width) == (320, 576)
    assert lite.precisions == finer.precisions == ("fp32", "fp16", "int8")
    assert s2svos.load("lite-hq").bundle.path == finer.path


def test_a_training_goes_on_from_what_ships(tmp_path: Path) -> None:
    arguments = ["train", "--out", str(tmp_path / "run"), "--init", "lite", "--data", "synthetic"]
    config = tmp_path / "short.yaml"
    config.write_text(
        "base: lite\nphases: [{steps: 1, batch: 1, length: 2, height: 64, width: 64}]\n"
        "validation: {every: 0, clips: 1, frames: 2}\nworkers: 0\noptimiser: {lr: 1.0e-9}\n"
    )
    done = CliRunner().invoke(app, [*arguments, "--config", str(config)])
    assert done.exit_code == 0, done.output
    before = load_network(checkpoint_path("lite")).state_dict()
    after = load_network(tmp_path / "run" / "final.pt").state_dict()
    assert all(torch.allclose(before[key], after[key], atol=1e-5) for key in before)


def test_another_size_of_what_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def export_checkpoint(checkpoint: Path, out: Path, **options: Any) -> None:
        asked.append((checkpoint, out, options["size"]))
        raise UserError("Asked")

    monkeypatch.setattr("s2svos.exporting.export_checkpoint", export_checkpoint)
    out = tmp_path / "small.s2s"
    done = CliRunner().invoke(app, ["export", "lite", "-o", str(out), "--size", "192x128"])
    assert str(done.exception) == "Asked"
    assert asked == [(checkpoint_path("lite"), out, (128, 192))]


def test_a_bundle_s_name_is_no_checkpoint() -> None:
    with pytest.raises(UserError, match=r"lite-hq has no checkpoint of its own; name lite"):
        checkpoint_path("lite-hq")
    done = CliRunner().invoke(app, ["export", "lite"])
    assert done.exit_code == 2
    assert "--plan or --web" in done.output


def test_the_quicker_one_has_a_narrower_backbone() -> None:
    pruned, whole = (load_network(checkpoint_path(name)).config for name in ("lite-fast", "lite"))
    assert isinstance(pruned, LiteConfig)
    assert isinstance(whole, LiteConfig)
    assert whole.widths == ()
    assert sum(pruned.widths) < 0.65 * sum(published_widths(pruned.backbone))
    quick = Bundle.open(bundle_path("lite-fast"))
    assert quick.precisions == ("fp32", "fp16", "int8")
    assert quick.contract == Bundle.open(bundle_path("lite")).contract
