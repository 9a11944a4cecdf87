"""The package without names that only Linux or POSIX has, as on macOS and Windows."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.architecture import modules

LACKING = """
import os, signal, sys
for owner, names in {
    os: "sched_getaffinity sched_setaffinity fork forkpty setsid killpg getpgid mkfifo nice "
    "getloadavg posix_fadvise pipe2 memfd_create",
    signal: "SIGHUP SIGUSR1 SIGUSR2 SIGALRM SIGCHLD pthread_kill pthread_sigmask alarm setitimer",
}.items():
    for name in names.split():
        if hasattr(owner, name):
            delattr(owner, name)
for name in ("fcntl", "resource", "grp", "pwd", "termios", "tty", "pty"):
    sys.modules[name] = None
"""
"""Run before anything else: takes names away that not every system has."""

# Modules that another package's loader needs a POSIX name for, or that are programs.
LEFT_OUT = {"s2svos.__main__", "s2svos.doctor.self_test", "s2svos_export.triton.client"}


def run(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", LACKING + code]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=600)


def test_every_module_is_imported(tmp_path: Path) -> None:
    names = sorted(set(modules()) - LEFT_OUT)
    code = f"""
import importlib, traceback
for name in {names!r}:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name in ("fcntl", "resource", "grp", "pwd", "termios", "tty", "pty"):
            traceback.print_exc()
    except Exception:
        traceback.print_exc()
"""
    done = run(code, tmp_path)
    assert done.returncode == 0
    ours = [line for line in done.stderr.splitlines() if "s2svos" in line and "File" in line]
    assert not ours, done.stderr


@pytest.mark.parametrize(
    "command",
    ["", "infer", "prepare", "train", "prune", "evaluate", "export", "info", "doctor", "demo"],
)
def test_commands_show_their_help(command: str, tmp_path: Path) -> None:
    arguments = [*command.split(), "--help"]
    done = run(f"from s2svos.cli import app; app({arguments!r}, 's2svos')", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_a_video_is_followed(engine: str, tmp_path: Path) -> None:
    code = f"""
from fractions import Fraction
from pathlib import Path
from s2svos.sample.render import render
from s2svos.video.masks import davis_palette, write_mask
from s2svos.video.writer import VideoWriter

clip = list(render(length=4))
height, width = clip[0][1].shape
with VideoWriter(Path("v.mp4"), width=width, height=height, rate=Fraction(24)) as writer:
    for frame, _ in clip:
        writer.write(frame)
write_mask(Path("first.png"), clip[0][1], davis_palette())
from s2svos.cli import main
sys.argv = ["s2svos", "infer", "v.mp4", "--mask", "first.png", "--engine", {engine!r}]
main()
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "v" / "masks").iterdir())) == 4


def test_info_and_doctor(tmp_path: Path) -> None:
    assert run(
        "sys.argv = ['s2svos', 'info']\nfrom s2svos.cli import main; main()", tmp_path
    ).stdout
    code = """
from s2svos.doctor.system import examine_cores, examine_packages, examine_processor, examine_python
for examine in (examine_cores, examine_packages, examine_processor, examine_python):
    print(*examine())
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
