"""Mistakes of those who export: a sentence and a remedy each, and nothing written."""

import errno
import os
from pathlib import Path

import pytest
import torch
from small_bundle import HEIGHT, WIDTH, graph, small_network
from typer.testing import CliRunner

from s2svos.cli import app
from s2svos.locks import locked_file
from s2svos.network.checkpoint import save_checkpoint
from s2svos_engines.bundle import write_bundle
from s2svos_engines.errors import UserError
from s2svos_engines.registry import installed_engines
from s2svos_export import export as module


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "x.pt"
    network = small_network()
    save_checkpoint(path, config=network.config, weights=network.state_dict(), facts={})
    return path


def mistake(*arguments: object) -> str:
    """What the command says; it must be a user's mistake."""
    result = CliRunner().invoke(app, ["export", *map(str, arguments)])
    if isinstance(result.exception, UserError):
        return str(result.exception)
    assert result.exit_code == 2, result.output
    return result.output


def test_a_size_that_the_network_cannot_have(checkpoint: Path, tmp_path: Path) -> None:
    assert "multiples of 32" in mistake(checkpoint, "-o", tmp_path / "x.s2s", "--size", "100x100")
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_program(tmp_path: Path) -> None:
    torch.save({"state_dict": {}}, tmp_path / "other.pt")
    said = mistake(tmp_path / "other.pt", "-o", tmp_path / "x.s2s")
    assert "other.pt is not an s2svos checkpoint" in said
    assert not (tmp_path / "x.s2s").exists()


def test_a_calibration_video_that_cannot_be_read(checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_text("no video")
    out = ("-o", tmp_path / "x.s2s", "--int8")
    said = mistake(checkpoint, *out, "--calibrate", f"{tmp_path}/broken.mp4=mask.png")
    assert "broken.mp4" in said
    assert "VIDEO=MASK" in mistake(checkpoint, *out, "--calibrate", "broken.mp4")
    assert not (tmp_path / "x.s2s").exists()


@pytest.mark.skipif("tensorrt" in installed_engines(), reason="TensorRT is installed")
def test_plans_without_tensorrt(checkpoint: Path, tmp_path: Path) -> None:
    said = mistake(checkpoint, "-o", tmp_path / "x.s2s", "--plan", "tensorrt")
    assert "tensorrt" in said and "pip install" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("full", "words"), [("the end", "free some space"), (0, "TMPDIR")])
def test_a_full_disk(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: object,
    words: str,
) -> None:
    out = tmp_path / "x.s2s"

    def write(path: Path, **contents: object) -> None:
        if path == out or full == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_bundle(path, **contents)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "write_bundle", write)
    monkeypatch.setattr(module, "export_graph", lambda _, name, **options: {"fp32": graph(name)})
    said = mistake(checkpoint, "-o", out, "--drift-frames", 10, "--accept-drift")
    assert words in said and ("the disk is full" in said or "No space left" in said)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(checkpoint: Path, tmp_path: Path) -> None:
    assert "does not exist" in mistake(checkpoint, "-o", tmp_path / "gone" / "x.s2s")


def test_what_is_no_bundle_is_not_replaced(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.s2s"
    out.write_text("mine")
    assert "x.s2s exists and is no bundle" in mistake(checkpoint, "-o", out)
    assert out.read_text() == "mine"


def test_a_bundle_that_another_run_writes_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    with locked_file(tmp_path / "x.s2s"):
        assert "in use by another run" in mistake(checkpoint, "-o", tmp_path / "x.s2s")
    assert not list(tmp_path.iterdir())


def test_a_frame_size_larger_than_the_checkpoint_s_is_exported(
    checkpoint: Path, tmp_path: Path
) -> None:
    """What the mistakes above are mistakes of works."""
    out, size = tmp_path / "x.s2s", f"{WIDTH + 32}x{HEIGHT}"
    arguments = ["export", str(checkpoint), "-o", str(out), "--size", size, "--batch"]
    options = ["--drift-frames", "10", "--accept-drift"]
    result = CliRunner().invoke(app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.drift.png", "x.s2s"]
