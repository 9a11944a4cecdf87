import csv
import os
import re
import signal
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from s2svos.data.dataset import open_source
from s2svos.network.checkpoint import build, load_network, read_checkpoint, save_checkpoint
from s2svos.network.config import LiteConfig, NetworkConfig, PaperConfig, config_to_json
from s2svos.training import step as step_module
from s2svos.training.config import TrainConfig
from s2svos.training.config_file import load_config, settings_from_json, settings_to_json
from s2svos.training.initial_weights import starting_network
from s2svos.training.run_log import Step
from s2svos.training.trainer import Trainer
from s2svos.training.validation import validation_videos
from s2svos_engines.errors import UserError

NETWORKS: dict[str, NetworkConfig] = {
    "lite": LiteConfig(32, 64, hidden=8, first_key=16, last_key=8),
    "paper": PaperConfig(32, 64, channels=8, fc_channels=8, vgg_width=0.05),
}
PHASES = [
    {"steps": 6, "batch": 2, "length": 3, "height": 32, "width": 64},
    {"steps": 3, "batch": 2, "length": 4, "height": 64, "width": 64},
]


def tiny(preset: str = "lite", **changes: Any) -> TrainConfig:
    """A training of seconds; ``changes`` are top-level keys of the config."""
    fields = settings_to_json(load_config(preset)) | {
        "network": config_to_json(NETWORKS[preset]),
        "backbone": {"weights": "none", "freeze": preset == "lite"},
        "data": ["synthetic"],
        "phases": PHASES,
        "validation": {"every": 4, "clips": 2, "frames": 3},
        "checkpoint_every": 6,
        "workers": 0,
    }
    return settings_from_json(fields | changes, "test")


def train(
    config: TrainConfig,
    out: Path,
    report: Callable[[Step], None] = lambda step: None,
    *,
    resume: bool = False,
) -> Path:
    saved = read_checkpoint(out / "last.pt") if resume else None
    return Trainer(
        config,
        network=starting_network(config, resumed=resume),
        source=open_source(config.data),
        out=out,
        videos=validation_videos(config),
        resume=saved,
    ).run(report)


def history(out: Path) -> list[dict[str, str]]:
    with (out / "history.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def same(a: Path, b: Path) -> None:
    first, second = read_checkpoint(a)["weights"], read_checkpoint(b)["weights"]
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


@pytest.mark.parametrize("preset", list(NETWORKS))
def test_a_stopped_run_goes_on_to_the_same_weights(preset: str, tmp_path: Path) -> None:
    config = tiny(preset)
    whole = train(config, tmp_path / "whole")

    def fail(step: Step) -> None:
        if step.step == 8:  # two steps after the second phase began; the last checkpoint is of 6
            raise RuntimeError("as if killed")

    with pytest.raises(RuntimeError):
        train(config, tmp_path / "parts", fail)
    assert not (tmp_path / "parts" / "final.pt").exists()
    seen: list[int] = []
    again = train(config, tmp_path / "parts", lambda s: seen.append(s.step), resume=True)
    assert seen == [7, 8, 9]
    same(whole, again)
    same(tmp_path / "whole" / "best.pt", tmp_path / "parts" / "best.pt")
    for key in ("step", "loss", "jaccard", "learning_rate", "gradient", "validation_j"):
        runs = ([row[key] for row in history(tmp_path / out)] for out in ("whole", "parts"))
        assert next(runs) == next(runs), key


def test_a_run_leaves_what_it_promises(tmp_path: Path) -> None:
    config = tiny(workers=1)
    steps: list[Step] = []
    final = train(config, tmp_path / "run", steps.append)
    out = tmp_path / "run"
    assert sorted(path.name for path in out.iterdir()) == [
        *("best.pt", "config.yaml", "final.pt", "history.csv", "last.pt", "loss_history.png"),
        *("tensorboard", "validation"),
    ]
    assert load_config(str(out / "config.yaml")) == config
    assert [int(row["step"]) for row in history(out)] == list(range(1, 10))
    assert all(0 < step.waiting < step.seconds for step in steps)
    scored = {step.step: step.validation for step in steps if step.validation}
    assert list(scored) == [4, 8, 9]
    assert sorted(path.name for path in (out / "validation").iterdir()) == [
        f"{step:06d}.png" for step in scored
    ]
    best = read_checkpoint(out / "best.pt")["facts"]["validation"]
    assert (best["j"], best["f"]) == max(scored.values(), key=sum)  # type: ignore[arg-type]
    checkpoint = read_checkpoint(final)
    assert checkpoint["resume"] is None
    facts = checkpoint["facts"]
    assert (facts["steps"], facts["clips"]) == (9, 18)
    assert facts["data"][0]["set"] == "synthetic"
    assert facts["training"]["seed"] == config.seed
    assert facts["code"]["s2svos"]
    assert load_network(final).config == config.network
    network = load_network(out / "last.pt")  # of the averaged weights, as final.pt is
    torch.testing.assert_close(network.state_dict(), checkpoint["weights"])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out / "tensorboard"))
    events.Reload()
    assert {"training/loss", "training/J", "validation/J", "speed/waiting_share"} <= set(
        events.Tags()["scalars"]
    )
    assert [event.step for event in events.Scalars("validation/J")] == [4, 8, 9]
    assert events.Tags()["images"] == ["validation"]


@pytest.mark.parametrize("preset", list(NETWORKS))
def test_parts_of_a_batch_make_the_same_step(preset: str, tmp_path: Path) -> None:
    """Of the default network with its backbone frozen and errors made on purpose."""
    torch.manual_seed(0)
    network = build(NETWORKS[preset])
    begin = tmp_path / "begin.pt"
    save_checkpoint(begin, config=network.config, weights=network.state_dict(), facts={})
    config = tiny(
        preset,
        init=str(begin),
        corruption=0.5,
        validation={"every": 0, "clips": 1, "frames": 2},
        phases=PHASES[:1],
    )
    whole = read_checkpoint(train(config, tmp_path / "whole"))["weights"]
    parts = read_checkpoint(train(replace(config, grad_accumulation=2), tmp_path / "parts"))[
        "weights"
    ]
    begun = starting_network(config).state_dict()
    for key, value in whole.items():
        torch.testing.assert_close(parts[key], value, rtol=1e-4, atol=1e-5)
    assert any((whole[key] - begun[key]).abs().max() > 5e-5 for key in whole)
    losses = ([float(row["loss"]) for row in history(tmp_path / out)] for out in ("whole", "parts"))
    torch.testing.assert_close(next(losses), next(losses), rtol=2e-5, atol=0)
    with pytest.raises(UserError, match="batch of 2 clips cannot be shared by 1 devices in 3"):
        train(replace(config, grad_accumulation=3), tmp_path / "thirds")
    with pytest.raises(UserError, match="batch of 2 clips cannot be shared by 4 devices"):
        train(replace(config, devices=4), tmp_path / "four")


def test_ctrl_c_saves_the_step_in_hand(tmp_path: Path) -> None:
    config = tiny(checkpoint_every=100)

    def interrupt(step: Step) -> None:
        if step.step == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(config, tmp_path, interrupt)
    assert read_checkpoint(tmp_path / "last.pt")["resume"]["step"] == 4
    assert len(history(tmp_path)) == 4
    assert (tmp_path / "loss_history.png").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_divergence_stops_and_overwrites_nothing(tmp_path: Path) -> None:
    config = tiny(checkpoint_every=4)

    def kill(step: Step) -> None:
        if step.step == 5:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        train(config, tmp_path, kill)
    before = (tmp_path / "last.pt").read_bytes()
    wild = replace(config, optimiser=replace(config.optimiser, lr=1e30))
    with pytest.raises(UserError) as caught:
        train(wild, tmp_path, resume=True)
    message = str(caught.value)
    assert re.search(r"Step [67]: the (loss|gradient) is (nan|inf)", message)
    assert "synthetic" in message
    assert "last.pt with --resume, a lower --lr (it is 1e+30)" in message
    assert (tmp_path / "last.pt").read_bytes() == before
    assert not (tmp_path / "final.pt").exists()


def test_nothing_is_saved_while_the_loss_is_far_above_its_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    phases = [PHASES[0] | {"steps": 30, "batch": 1}]
    patience = {"factor": 5.0, "patience": 20}
    config = tiny("paper", phases=phases, divergence=patience, checkpoint_every=2)
    real = step_module.training_loss

    def infinite(*args: Any) -> torch.Tensor:
        return real(*args) * (100 if args[3] >= 4 / 30 else 1)

    monkeypatch.setattr(step_module, "training_loss", infinite)
    with pytest.raises(UserError, match=r"Step 24: for 20 steps the loss, .* far above its mean"):
        train(config, tmp_path)
    assert read_checkpoint(tmp_path / "last.pt")["resume"]["step"] == 4
    assert [path.name for path in (tmp_path / "validation").iterdir()] == ["000004.png"]


def test_bf16_trains(tmp_path: Path) -> None:
    config = tiny(
        precision="bf16",
        phases=[PHASES[0] | {"steps": 2}],
        validation={"every": 0, "clips": 1, "frames": 2},
    )
    weights = read_checkpoint(train(config, tmp_path))["weights"]
    assert {value.dtype for value in weights.values() if value.is_floating_point()} == {
        torch.float32
    }
    assert all(value.isfinite().all() for value in weights.values())
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="fp16 needs a GPU"):
            train(replace(config, precision="fp16"), tmp_path / "half")


def test_a_run_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    donor = build(NETWORKS["lite"])
    path = tmp_path / "donor.pt"
    save_checkpoint(path, config=donor.config, weights=donor.state_dict(), facts={})
    # Another frame size is no other network.
    config = tiny(
        init=str(path), network=config_to_json(replace(donor.config, height=64, width=96))
    )
    network = starting_network(config)
    for key, value in network.state_dict().items():
        assert torch.equal(value, donor.state_dict()[key])
    backbone = network.encoder.backbone  # type: ignore[union-attr]
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    wider = tiny(init=str(path), network=config_to_json(replace(donor.config, hidden=16)))
    with pytest.raises(UserError, match=r"another network \(hidden 8; here hidden 16\)"):
        starting_network(wider)
    paper = tiny("paper", init=str(path))
    with pytest.raises(UserError, match=r"another network \(preset lite, .*here preset paper"):
        starting_network(paper)
    weights = dict(donor.state_dict())
    weights["decoder.logits.weight"] = weights["decoder.logits.weight"][:, :2]
    save_checkpoint(path, config=donor.config, weights=weights, facts={})
    with pytest.raises(UserError, match=r"decoder\.logits\.weight is \(.*\) there and"):
        starting_network(config)
    with pytest.raises(UserError, match="name a checkpoint that s2svos train wrote"):
        starting_network(replace(config, init="nowhere.pt"))


def test_backbone_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    torch.save({"conv": torch.zeros(1)}, path)
    backbone = {"weights": str(path), "freeze": True}
    with pytest.raises(UserError, match=r"weights\.pth does not hold the weights of"):
        starting_network(tiny(backbone=backbone))
    with pytest.raises(UserError, match="does not exist; name a file of weights"):
        starting_network(tiny(backbone={"weights": "nowhere", "freeze": True}))
    with pytest.raises(UserError, match="choose --backbone-weights imagenet or none"):
        starting_network(tiny("paper", backbone=backbone))
    donor = build(NETWORKS["paper"])
    save_checkpoint(path, config=donor.config, weights=donor.state_dict(), facts={})
    frozen = tiny("paper", init=str(path), backbone={"weights": "none", "freeze": True})
    with pytest.raises(UserError, match=r"set backbone\.freeze to false"):
        starting_network(frozen)


def test_the_default_checkpoint_travels(tmp_path: Path) -> None:
    """60 MB is what a run on lent machines may carry."""
    donor = build(load_config("lite").network)
    save_checkpoint(tmp_path / "x.pt", config=donor.config, weights=donor.state_dict(), facts={})
    phases = [{"steps": 1, "batch": 1, "length": 2, "height": 32, "width": 64}]
    config = tiny(
        init=str(tmp_path / "x.pt"),
        network=config_to_json(donor.config),
        phases=phases,
        validation={"every": 0, "clips": 1, "frames": 2},
    )
    train(config, tmp_path / "run")
    assert (tmp_path / "run" / "last.pt").stat().st_size < 60e6
    assert asdict(config.backbone)["freeze"]


def test_a_checkpoint_with_older_keys_of_the_config_goes_on(tmp_path: Path) -> None:
    config, out = tiny(), tmp_path / "run"

    def fail(step: Step) -> None:
        if step.step == 7:
            raise RuntimeError("as if killed")

    with pytest.raises(RuntimeError):
        train(config, out, fail)
    data = torch.load(out / "last.pt", weights_only=True)
    saved = data["resume"]["config"]
    for new, old in (("corruption", "spoil"), ("ema_decay", "average")):
        saved[old] = saved.pop(new)
    saved["optimiser"]["rate"] = saved["optimiser"].pop("lr")
    torch.save(data, out / "last.pt")
    again = settings_from_json(read_checkpoint(out / "last.pt")["resume"]["config"], "last.pt")
    assert again == config
    seen: list[int] = []
    train(again, out, lambda step: seen.append(step.step), resume=True)
    assert seen == [7, 8, 9]
