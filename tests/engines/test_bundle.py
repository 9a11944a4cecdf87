import hashlib
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from s2svos_engines import bundle as bundles
from s2svos_engines.bundle import SEAL, Bundle, add_plans, write_bundle
from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.errors import UserError


def graph_of(operator: str = "Relu", **more: bytes) -> bytes:
    """The wire format of a model with one node, and fields of its node, graph and model."""

    def field(number: int, value: bytes) -> bytes:
        return bytes([*_varint(number << 3 | 2), *_varint(len(value))]) + value

    node = field(4, operator.encode()) + more.get("node", b"")
    return field(7, field(1, node) + more.get("graph", b"")) + more.get("model", b"")


def _varint(value: int) -> list[int]:
    return [value] if value < 128 else [value & 127 | 128, *_varint(value >> 7)]


EXTERNAL = bytes([2 << 3 | 2, 0, 14 << 3, 1])  # a tensor whose data_location is EXTERNAL

CONTRACT = StepContract(64, 112, (StateSpec("cell", (8, 4, 7)),))
GRAPHS = {"fp32": {"init": graph_of("Relu") * 20, "step": graph_of("Tanh") * 20}}


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


def test_engines_on_a_gpu_have_graphs_of_their_own(tmp_path: Path) -> None:
    path, name = tmp_path / "x.s2s", "plans/step.plan"
    on_gpu = {"init": GRAPHS["fp32"]["init"], "step": graph_of("Abs")}
    graphs = {**GRAPHS, "int8": {**GRAPHS["fp32"], "step": graph_of("Neg")}}
    write_bundle(path, contract=CONTRACT, graphs=graphs, gpu_graphs={"int8": on_gpu}, facts={})
    record = {"member": name, "graph": "step", "precision": "int8"}
    for _ in range(2):
        bundle = Bundle.open(path)
        assert bundle.precisions == bundle.for_gpu().precisions == ("fp32", "int8")
        assert bundle.graph("step", precision="int8") == graph_of("Neg")
        assert bundle.for_gpu().graph("step", precision="int8") == graph_of("Abs")
        assert bundle.for_gpu().graph("step") == bundle.graph("step")
        assert bundle.for_gpu().sha256 == bundle.sha256
        add_plans(path, [(record, b"machine code")])
    assert Bundle.open(path).read(name) == b"machine code"


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
    with pytest.raises(UserError, match="take a newer version"):
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


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (graph_of(graph=bytes([5 << 3 | 2, len(EXTERNAL)]) + EXTERNAL), "files outside"),
        (graph_of(node=bytes([5 << 3 | 2, 6, 5 << 3 | 2, 4]) + EXTERNAL), "files outside"),
        (graph_of(node=bytes([5 << 3 | 2, 2, 6 << 3 | 2, 0])), "graphs within a graph"),
        (graph_of("Loop"), "operator 'Loop'"),
        (graph_of(node=bytes([7 << 3 | 2, 4]) + b"evil"), "operators of 'evil'"),
        (graph_of(model=bytes([0xCA, 1, 0])), "functions of its own"),
        (graph_of(graph=bytes([15 << 3 | 2, 0])), "sparse weights"),
        (graph_of()[:-1], "cut off"),
        (b"\x07" * 8, "no ONNX model"),
        (b"", "no graph"),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(
    tmp_path: Path, graph: bytes, reason: str
) -> None:
    path = tmp_path / "evil.s2s"
    write_bundle(path, contract=CONTRACT, graphs={"fp32": {"init": graph, "step": graph}}, facts={})
    with pytest.raises(UserError, match=rf"evil\.s2s .*{reason}"):
        Bundle.open(path).graphs()["step"]()


def sealed(path: Path, members: dict[str, bytes], *, compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a bundle with any members, and the checksum that belongs to them."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.comment = b"0" * SEAL
    digest = hashlib.sha256(path.read_bytes()[:-SEAL]).hexdigest()
    path.write_bytes(path.read_bytes()[:-SEAL] + digest.encode())
    return path


def changed(path: Path, *keys: str | int, value: object) -> dict[str, bytes]:
    """Return a bundle's members with one value of its manifest changed."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(members["manifest.json"])
    place = manifest
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return members | {"manifest.json": json.dumps(manifest).encode()}


def test_a_resealed_bundle_is_read(path: Path) -> None:
    members = changed(path, "network", value={"preset": "other"})
    assert Bundle.open(sealed(path, members)).manifest.preset == "other"


@pytest.mark.parametrize(
    ("keys", "value"),
    [
        (("format",), "2"),
        (("format",), None),
        (("contract",), []),
        (("contract", "height"), 0),
        (("contract", "height"), 1e9),
        (("contract", "width"), 10**30),
        (("contract", "states"), []),
        (("contract", "states", 0, "shape"), [-1]),
        (("contract", "states", 0, "shape"), [8192, 8192, 8]),
        (("contract", "states", 0, "dtype"), "object"),
        (("contract", "states", 0, "name"), "../x"),
        (("graphs",), {"fp32": []}),
        (("graphs",), {"fp32": {"step": "step.onnx"}}),
        (("graphs", "fp32", "step"), "gone.onnx"),
        (("graphs", "fp32", "step1000000"), "step.onnx"),
        (("weights",), {"step.onnx": ["init.onnx"] * 1000}),
        (("members",), {"init.onnx": 5}),
        (("parity",), [1]),
        (("plans",), {"a": 1}),
        (("tools",), 7),
    ],
)
def test_a_manifest_that_does_not_fit_the_schema(
    path: Path, keys: tuple[str | int, ...], value: object
) -> None:
    with pytest.raises(UserError, match=r"x\.s2s is not a bundle or is damaged"):
        Bundle.open(sealed(path, changed(path, *keys, value=value)))


def test_a_manifest_without_an_end(path: Path) -> None:
    members = changed(path, "network", value=0) | {"manifest.json": b"[" * 100_000}
    with pytest.raises(UserError, match="damaged"):
        Bundle.open(sealed(path, members))


def test_members_that_would_fill_the_memory(path: Path) -> None:
    members = changed(path, "network", value={})
    with pytest.raises(UserError, match="compressed"):
        Bundle.open(sealed(path, members, compression=zipfile.ZIP_DEFLATED))


def test_a_member_is_checked_as_it_is_read(path: Path) -> None:
    bundle = Bundle.open(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    sealed(path, members | {"step.onnx": members["init.onnx"]})
    with pytest.raises(UserError, match=r"step\.onnx in .* is damaged, or changed"):
        bundle.graph("step")
