"""OpenVINO's usage statistics, which only users who asked for them have."""

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path

import pytest

if not any(one.name == "openvino-telemetry" for one in importlib.metadata.distributions()):
    pytest.skip("OpenVINO's telemetry is not installed", allow_module_level=True)

SCRIPT = """
import socket

def refuse(*arguments, **options):
    print("asked for", arguments[0])
    raise OSError("refused")

socket.getaddrinfo = socket.create_connection = socket.socket.connect = refuse
import numpy as np
import s2svos

frame, mask = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
mask[10:30, 10:40] = 1
tracker = s2svos.load(engine="openvino")
tracker.open(frame, mask).step(frame)
"""


def follow(home: Path) -> subprocess.CompletedProcess[str]:
    ci = "CI", "TF_BUILD", "JENKINS_URL"  # with which OpenVINO sends nothing by itself
    environment = {name: value for name, value in os.environ.items() if name not in ci}
    environment |= {"HOME": str(home), "LOCALAPPDATA": str(home), "https_proxy": "127.0.0.1:1"}
    return subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )


def files_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("consent", [None, "0", "", "junk"])
def test_nothing_is_sent_and_nothing_kept(consent: str | None, tmp_path: Path) -> None:
    if consent is not None:
        (tmp_path / "intel").mkdir()
        (tmp_path / "intel" / "openvino_telemetry").write_text(consent)
    before = files_in(tmp_path)
    done = follow(tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert files_in(tmp_path) == before


def test_a_home_folder_that_cannot_be_written_is_no_matter() -> None:
    done = follow(Path("/proc"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_who_opted_in_with_openvinos_tool_has_its_statistics(tmp_path: Path) -> None:
    (tmp_path / "intel").mkdir()
    (tmp_path / "intel" / "openvino_telemetry").write_text("1")
    assert follow(tmp_path).returncode == 0
    assert "openvino_ga_cid" in files_in(tmp_path)
