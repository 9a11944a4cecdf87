import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner, Result

from s2svos import UserError
from s2svos.cli import app
from s2svos.network.checkpoint import build, load_network, read_checkpoint, save_checkpoint
from s2svos.network.config import LiteConfig, PaperConfig

SMALL = ("--data", "synthetic", "--workers", 0, "--batch-size", 1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = build(LiteConfig(32, 64, hidden=8, first_key=16, last_key=8))
    path = tmp_path_factory.mktemp("whole") / "whole.pt"
    facts = {"steps": 7}
    save_checkpoint(path, config=network.config, weights=network.state_dict(), facts=facts)
    return path


def command(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["prune", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


@pytest.fixture(scope="module")
def slim(whole: Path) -> Path:
    out = whole.with_name("slim.pt")
    result = command(whole, "-o", out, *SMALL, "--share", 0.5, "--steps", 3)
    assert result.exit_code == 0, result.output
    assert f"s2svos export {out} -o slim.s2s" in result.stdout
    return out


def test_a_pruned_checkpoint(whole: Path, slim: Path) -> None:
    data, network = read_checkpoint(slim), load_network(slim)
    assert data["resume"] is None
    assert data["facts"]["steps"] == 7
    assert data["facts"]["pruned"]["share"] == 0.5
    assert data["facts"]["pruned"]["data"][0]["set"] == "synthetic"
    assert sum(network.config.widths) < 0.8 * sum(  # type: ignore[union-attr]
        block.dw.in_channels
        for block in load_network(whole).encoder.backbone.blocks  # type: ignore[union-attr]
    )


def test_a_training_goes_on_from_it(slim: Path, tmp_path: Path) -> None:
    config, out = tmp_path / "c.yaml", tmp_path / "run"
    config.write_text(
        "base: lite\nnetwork: {preset: lite, height: 32, width: 64, hidden: 8, first_key: 16, "
        "last_key: 8}\nphases: [{steps: 2, batch: 1, length: 3, height: 32, width: 64}]\n"
        "data: [synthetic]\nworkers: 0\nvalidation: {every: 0, clips: 1, frames: 2}\n"
    )
    arguments = ["train", "--config", config, "--init", slim, "--out", out]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert result.exit_code == 0, result.output
    before, after = load_network(slim), load_network(out / "final.pt")
    assert before.config == after.config
    old, new = before.state_dict(), after.state_dict()
    assert all(torch.equal(old[key], new[key]) for key in old if "backbone" in key)


def test_it_goes_on_where_it_was_stopped(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "slim.pt"
    words = ["prune", whole, "-o", out, *SMALL, "--steps", 100_000]
    program = (
        "from s2svos import cli\n"
        "from s2svos.commands import prune\n"
        "prune.SAVE_EVERY = 5\n"
        "cli.main()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, *map(str, words)], stderr=subprocess.PIPE, text=True
    ) as process:
        while not out.exists():  # it is saved now and then
            assert process.poll() is None
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=600)
    assert process.returncode == 130
    assert "--resume goes on" in told
    assert "Traceback" not in told
    step = read_checkpoint(out)["resume"]["distillation"]["step"]
    with pytest.raises(UserError, match="exists; go on with --resume"):
        command(whole, "-o", out, *SMALL, "--steps", step + 2)
    result = command(whole, "-o", out, *SMALL, "--steps", step + 2, "--resume")
    assert f"step {step}" in result.stderr
    assert read_checkpoint(out)["resume"] is None
    with pytest.raises(UserError, match="no pruning that was stopped"):
        command(whole, "-o", out, *SMALL, "--steps", step + 2, "--resume")


def test_mistakes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    paper = build(PaperConfig(32, 64, channels=8, fc_channels=8, vgg_width=0.05))
    path, out = tmp_path / "paper.pt", tmp_path / "slim.pt"
    save_checkpoint(path, config=paper.config, weights=paper.state_dict(), facts={})
    with pytest.raises(UserError, match="is a paper network"):
        command(path, "-o", out, *SMALL)
    with pytest.raises(UserError, match="does not exist"):
        command(tmp_path / "no.pt", "-o", out, *SMALL)
    assert command("lite", "-o", out, *SMALL, "--share", 1.5).exit_code == 2
    assert not out.exists()
