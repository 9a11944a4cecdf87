import zipfile
from pathlib import Path

import numpy as np
import pytest

from s2svos_engines import bundle as bundles
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.errors import UserError

CONTRACT = StepContract(64, 112, (StateSpec("cell", (8, 4, 7)),))
GRAPHS = {"fp32": {"init": b"first graph" * 20, "step": b"second graph" * 20}}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.s2s"
    write_bundle(path, contract=CONTRACT, graphs=GRAPHS, facts={"network": {"preset": "lite"}})
    return path


def test_round_trip(path: Path) -> None:
    bundle = Bundle.open(path)
    assert bundle.contract == CONTRACT
    assert bundle.graph("step") == GRAPHS["fp32"]["step"]
    assert bundle.precisions == ("fp32",)
    assert bundle.manifest.network == {"preset": "lite"}
    with zipfile.ZipFile(path) as archive:
        assert {member.compress_type for member in archive.infolist()} == {zipfile.ZIP_STORED}
        assert "step.onnx" in archive.namelist()
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left beside it"


def test_same_contents_same_bytes(path: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.s2s"
    write_bundle(again, contract=CONTRACT, graphs=GRAPHS, facts={"network": {"preset": "lite"}})
    assert again.read_bytes() == path.read_bytes()


def test_every_changed_byte_is_noticed(path: Path) -> None:
    good = path.read_bytes()
    for offset in range(len(good)):
        path.write_bytes(good[:offset] + bytes([good[offset] ^ 0x20]) + good[offset + 1 :])
        with pytest.raises(UserError, match=r"x\.s2s"):
            Bundle.open(path)


def test_every_truncation_is_noticed(path: Path) -> None:
    good = path.read_bytes()
    for size in np.linspace(0, len(good) - 1, 200).astype(int):
        path.write_bytes(good[:size])
        with pytest.raises(UserError, match="damaged"):
            Bundle.open(path)


def test_newer_format_says_upgrade(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "FORMAT", 0)
    with pytest.raises(UserError, match="pip install -U"):
        Bundle.open(path)


def test_missing_bundle_and_precision(path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        Bundle.open(path.with_name("y.s2s"))
    with pytest.raises(UserError, match="holds fp32, not fp16"):
        Bundle.open(path).graph("step", precision="fp16")


def test_a_failed_write_keeps_the_old_bundle(path: Path) -> None:
    good = path.read_bytes()
    with pytest.raises(TypeError):
        write_bundle(path, contract=CONTRACT, graphs=GRAPHS, facts={"network": object()})
    assert path.read_bytes() == good
    assert [p.name for p in path.parent.iterdir()] == [path.name]
