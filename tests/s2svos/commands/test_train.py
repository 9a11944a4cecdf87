import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner, Result

from s2svos import UserError
from s2svos.cli import app
from s2svos.locks import locked_folder
from s2svos.network.checkpoint import build, read_checkpoint, save_checkpoint
from s2svos.network.config import LiteConfig
from s2svos.training.config_file import load_config
from s2svos.training.run_log import COLUMNS

LITE = "{preset: lite, height: 32, width: 64, hidden: 8, first_key: 16, last_key: 8}"
PAPER = "{preset: paper, height: 32, width: 64, channels: 8, fc_channels: 8, vgg_width: 0.05}"


def write(path: Path, *, preset: str = "paper", steps: int, every: int = 0, more: str = "") -> Path:
    """A config of seconds; ``paper`` is quicker, as its checkpoints are small."""
    network = LITE if preset == "lite" else PAPER
    path.write_text(
        f"base: {preset}\nnetwork: {network}\ndata: [synthetic]\nworkers: 0\ncheckpoint_every: 1\n"
        f"phases: [{{steps: {steps}, batch: 2, length: 3, height: 32, width: 64}}]\n"
        f"validation: {{every: {every}, clips: 1, frames: 2}}\n"
        f"backbone: {{weights: none}}\n{more}"
    )
    return path


def command(*arguments: object) -> Result:
    result = CliRunner().invoke(app, ["train", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        raise result.exception
    return result


def losses(out: Path) -> list[float]:
    with (out / "history.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def equal(a: Path, b: Path) -> bool:
    first, second = read_checkpoint(a)["weights"], read_checkpoint(b)["weights"]
    return all(torch.equal(value, second[key]) for key, value in first.items())


def test_synthetic_data_need_no_file(tmp_path: Path) -> None:
    config, out = write(tmp_path / "c.yaml", steps=9), tmp_path / "run"
    result = command("--config", config, "--data", "synthetic", "--steps", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert "random weights" in result.stderr
    assert "--backbone-weights imagenet" in result.stderr
    assert f"s2svos export {out / 'final.pt'}" in result.stdout
    effective = load_config(str(out / "config.yaml"))
    assert effective.steps == 2


def test_options_win_over_the_file(tmp_path: Path) -> None:
    config = write(tmp_path / "c.yaml", steps=9)
    options = {
        "--epochs": 0.0006,  # of 3,471 clips
        "--batch-size": 1,
        "--lr": 3e-3,
        "--seed": 5,
        "--workers": 1,
        "--accumulate": 1,
        "--precision": "fp32",
    }
    flat = [part for pair in options.items() for part in pair]
    result = command("--config", config, *flat, "--strict", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    effective = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert effective["optimiser"]["lr"] == 3e-3
    assert effective["phases"][0] | {"batch": 1, "steps": 2} == effective["phases"][0]
    assert effective["grad_accumulation"] == 1
    for key in ("seed", "workers"):
        assert effective[key] == options[f"--{key}"]
    assert effective["strict"] is True
    assert effective["precision"] == "fp32"


def test_mistakes_end_in_a_sentence(tmp_path: Path) -> None:
    config, out = write(tmp_path / "c.yaml", steps=9), tmp_path / "run"
    with pytest.raises(UserError, match="--data synthetic"):
        command("--config", "lite", "--out", out)
    with pytest.raises(UserError, match="names no data set"):
        command("--data", "nonsense", "--out", out)
    with pytest.raises(UserError, match=r"command line: optimiser\.lr is 0\.0; .* greater than 0"):
        command("--config", config, "--lr", 0, "--out", out)
    assert command("--steps", 2, "--epochs", 1, "--out", out).exit_code == 2
    assert not out.exists()
    (out / "x").mkdir(parents=True)
    (out / "last.pt").write_text("cut off")
    with pytest.raises(UserError, match=r"earlier run; go on with --resume"):
        command("--config", config, "--out", out)
    with pytest.raises(UserError, match=r"last\.pt is damaged or is not a checkpoint that s2svos"):
        command("--resume", "--out", out)
    network = build(LiteConfig(32, 64, hidden=8, first_key=16, last_key=8))
    save_checkpoint(out / "last.pt", config=network.config, weights=network.state_dict(), facts={})
    with pytest.raises(UserError, match=r"lacks the state of the trainer; .*--init"):
        command("--resume", "--out", out)


@pytest.mark.parametrize("name", ["config.yaml", "history.csv", "best.pt", "loss_history.png"])
def test_files_of_others_are_not_replaced(name: str, tmp_path: Path) -> None:
    config, out = write(tmp_path / "c.yaml", steps=1), tmp_path / "run"
    out.mkdir()
    (out / name).write_text("mine")
    for resume in ([], ["--resume"]):
        with pytest.raises(UserError, match=f"{name} is not of a run"):
            command("--config", config, "--out", out, *resume)
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "mine"


def test_a_run_that_was_killed_before_its_first_checkpoint_is_begun_again(tmp_path: Path) -> None:
    config, out = write(tmp_path / "c.yaml", steps=1), tmp_path / "run"
    out.mkdir()
    (out / "history.csv").write_text(",".join(COLUMNS) + "\n")
    (out / "config.yaml").write_text("base: lite\n")
    assert command("--config", config, "--out", out).exit_code == 0


def test_a_folder_that_another_run_has_is_refused(tmp_path: Path) -> None:
    config, out = write(tmp_path / "c.yaml", steps=1), tmp_path / "run"
    with locked_folder(out), pytest.raises(UserError, match="in use by another run"):
        command("--config", config, "--out", out)
    assert not out.exists()


def test_a_resumed_run_keeps_its_config_and_takes_more_steps(tmp_path: Path) -> None:
    config, out = write(tmp_path / "c.yaml", steps=2), tmp_path / "run"
    assert command("--config", config, "--resume", "--out", out).exit_code == 0  # begins
    result = command("--resume", "--steps", 4, "--out", out)
    assert result.exit_code == 0, result.output
    assert "Going on from" in result.stderr
    assert len(losses(out)) == 4
    assert load_config(str(out / "config.yaml")).steps == 4
    with pytest.raises(UserError, match="seed has changed from 1 to 2"):
        command("--resume", "--seed", 2, "--out", out)


DRIVER = """
import os, random, signal, sys, time
from s2svos.cli import main
# once for all
import s2svos.commands.terminal, s2svos.training.trainer, s2svos.training.initial_weights

history, kills = sys.argv[1], int(sys.argv[2])
sys.argv = ["s2svos", *sys.argv[3:]]
for attempt in range(kills + 1):
    child = os.fork()
    if not child:
        main()
        os._exit(0)
    ended = 0
    while attempt < kills and not ended:
        rows = open(history).read().count("\\n") - 1 if os.path.exists(history) else 0
        if rows > 2 * attempt:
            time.sleep(random.Random(attempt).uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            break
        time.sleep(0.005)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        status = os.waitpid(child, 0)[1]
    print(os.waitstatus_to_exitcode(status), flush=True)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    """SIGKILL, again and again; a checkpoint is written after every step, so it meets some."""
    kills = 3
    config = write(tmp_path / "c.yaml", steps=8, every=3)
    assert command("--config", config, "--out", tmp_path / "whole").exit_code == 0
    out = tmp_path / "killed"
    arguments = ["train", "--config", config, "--resume", "--out", out]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, out / "history.csv", str(kills), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=600,
        check=True,
    )
    *earlier, last = done.stdout.split()
    assert last == "0", done.stderr
    # A machine that is fast enough ends a run before its signal; the first has seven steps to go.
    assert "-9" in earlier, done.stdout
    assert equal(tmp_path / "whole" / "final.pt", out / "final.pt")
    assert losses(tmp_path / "whole") == losses(out)
    assert not list(out.glob("*.part"))


def processes(*start: object) -> dict[str, str]:
    environment = dict(os.environ) | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, start)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {"stdout": done.stdout, "stderr": done.stderr}


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["paper", "lite"])
def test_two_processes_train_as_one_with_the_joint_batch(preset: str, tmp_path: Path) -> None:
    """``paper`` through torchrun, ``lite`` with its frozen backbone through ``--devices``."""
    more = ""
    if preset == "lite":
        begin = tmp_path / "begin.pt"
        torch.manual_seed(0)
        network = build(LiteConfig(32, 64, hidden=8, first_key=16, last_key=8))
        save_checkpoint(begin, config=network.config, weights=network.state_dict(), facts={})
        more = f"init: {begin}\ncorruption: 0.5\n"
    config = write(tmp_path / "c.yaml", preset=preset, steps=4, more=more)
    one, two = tmp_path / "one", tmp_path / "two"
    assert command("--config", config, "--out", one).exit_code == 0
    arguments = ("s2svos", "train", "--config", config, "--out", two)
    if preset == "paper":
        torchrun = ("torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m")
        told = processes(*torchrun, *arguments)
    else:
        told = processes(*arguments, "--devices", 2)
    assert told["stdout"].count("final.pt; next") == 1  # one of them talks
    torch.testing.assert_close(losses(two), losses(one), rtol=1e-4, atol=1e-6)
    whole = read_checkpoint(one / "last.pt")
    joint = read_checkpoint(two / "last.pt")
    for part in ("weights", "resume"):
        first = whole[part] if part == "weights" else whole[part]["weights"]
        second = joint[part] if part == "weights" else joint[part]["weights"]
        for key, value in first.items():
            torch.testing.assert_close(second[key], value, rtol=1e-3, atol=1e-5, msg=key)
    assert len(joint["resume"]["random"]) == 2
    assert joint["facts"]["clips"] == whole["facts"]["clips"] == 8


def test_ctrl_c_says_how_to_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from s2svos.training import run_log as records

    write_row = records.Records.write

    def interrupt(self: records.Records, step: object) -> None:
        write_row(self, step)  # type: ignore[arg-type]
        if step.step == 1:  # type: ignore[attr-defined]
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(records.Records, "write", interrupt)
    config, out = write(tmp_path / "c.yaml", steps=9), tmp_path / "run"
    result = CliRunner().invoke(app, ["train", "--config", str(config), "--out", str(out)])
    assert result.exit_code != 0
    assert "last.pt has the run so far; --resume goes on from it" in result.stderr
    assert read_checkpoint(out / "last.pt")["resume"]["step"] == 2
