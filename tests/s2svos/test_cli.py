"""The command line as a user meets it: real processes."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from s2svos.cli import _was_stopped

HEAVY = ("torch", "onnx", "torchvision")


def s2svos(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "s2svos", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)


def loaded_by(code: str, cwd: Path) -> set[str]:
    code += "\nimport sys; print(' '.join({name.partition('.')[0] for name in sys.modules}))"
    run = subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return set(run.stdout.splitlines()[-1].split())


def test_the_command_line_itself_imports_nothing_heavy(tmp_path: Path) -> None:
    loaded = loaded_by("import s2svos.cli", tmp_path)
    assert "typer" in loaded
    assert not loaded & {*HEAVY, "numpy", "cv2", "av", "openvino", "onnxruntime"}


def test_infer_imports_neither_torch_nor_onnx(tmp_path: Path) -> None:
    loaded = loaded_by(
        "from s2svos.commands.infer import infer\n"
        "import s2svos, s2svos.inference.run\n"
        "from s2svos.sample.render import render\n"
        "clip = list(render(length=2))\n"
        "for engine in ('openvino', 'onnxruntime'):\n"
        "    s2svos.load(engine=engine).open(*clip[0]).step(clip[1][0])\n",
        tmp_path,
    )
    assert {"openvino", "onnxruntime", "cv2"} <= loaded
    assert not loaded & set(HEAVY)


def test_every_engine_can_be_chosen() -> None:
    from s2svos.commands.options import EngineChoice
    from s2svos_engines.registry import ENGINES

    assert {*EngineChoice} == {"auto", *ENGINES}


def test_help_names_the_commands(tmp_path: Path) -> None:
    run = s2svos("--help", cwd=tmp_path)
    assert run.returncode == 0
    for command in ("infer", "train", "prune", "evaluate", "export", "demo"):
        assert command in run.stdout
    assert re.fullmatch(r"s2svos \d+\.\d+\.\d+\n", s2svos("--version", cwd=tmp_path).stdout)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["infer", "gone.mp4", "--mask", "gone.png"], "gone.mp4"),
        (["export", "gone.pt", "-o", "x.s2s"], "gone.pt"),
        (["export", "gone.pt", "-o", "x.onnx"], ".s2s"),
        (["export", "gone.pt", "-o", "x.s2s", "--size", "12by9"], "WIDTHxHEIGHT"),
        (["train", "--data", "davis=.", "--out", "x"], "DAVIS"),
        (
            ["train", "--data", "synthetic", "--out", "x", "--backbone-weights", "gone.pth"],
            "gone.pth",
        ),
    ],
)
def test_mistakes_end_in_a_sentence_and_code_2(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    run = s2svos(*arguments, cwd=tmp_path)
    assert run.returncode == 2
    assert words in run.stderr
    assert "Traceback" not in run.stderr
    assert not list(tmp_path.iterdir())


def test_an_error_that_a_stop_signal_caused_is_no_error() -> None:
    """Python 3.11 wraps a KeyboardInterrupt that comes while a class is made."""
    wrapped = RuntimeError("Error calling __set_name__")
    assert not _was_stopped(wrapped)
    wrapped.__cause__ = KeyboardInterrupt()
    assert _was_stopped(wrapped)


def test_a_stop_while_a_class_is_made_ends_with_the_code_of_the_signal(tmp_path: Path) -> None:
    """Python notes a KeyboardInterrupt that leaves an exec of text, and ends by SIGINT at last."""
    (tmp_path / "stopped.py").write_text(
        "import os, signal\n"
        "from s2svos import cli\n"
        "cli.app = lambda: exec('os.kill(os.getpid(), signal.SIGTERM)')\n"
        "cli.main()\n"
    )
    run = subprocess.run([sys.executable, "-m", "stopped"], cwd=tmp_path, capture_output=True)
    assert run.returncode == 128 + signal.SIGTERM
