"""Every reader of a stranger's bytes, fed with damaged ones: a sentence, or what they say.

``make fuzz`` tries more of them, and others each time; here they are the same in every run.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image
from video_files import picture, write_video

import s2svos
from s2svos.data import layouts
from s2svos.network.checkpoint import checkpoint_config, read_checkpoint
from s2svos.network.config import LiteConfig, config_to_json
from s2svos.training.config_file import load_config
from s2svos.video.address import HIDDEN, address_name, is_address, stem
from s2svos.video.masks import read_first_mask
from s2svos.video.pictures import BROKEN, read_rgb
from s2svos.video.reader import Video
from s2svos_engines.bundle import SEAL, Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.graph_check import check_graph
from s2svos_engines.manifest import Manifest

MORE = int(os.environ.get("S2SVOS_FUZZ", "0"))


def fuzz(examples: int) -> settings:
    """Settings of a target that has so many examples in a usual run."""
    return settings(
        max_examples=MORE or examples,
        derandomize=not MORE,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
EDIT = st.tuples(st.integers(0, 1 << 24), st.binary(min_size=1, max_size=8), st.sampled_from("oid"))
EDITS = st.lists(EDIT, min_size=1, max_size=6)
Edits = list[tuple[int, bytes, str]]


def edited(data: bytes, edits: Edits) -> bytes:
    """Overwrite, insert or delete bytes."""
    changed = bytearray(data)
    for place, piece, how in edits:
        at = place % (len(changed) + 1)
        end = at if how == "i" else min(len(changed), at + len(piece))
        changed[at:end] = b"" if how == "d" else piece
    return bytes(changed)


def attempt(read: Callable[[], object], *expected: type[Exception]) -> bool:
    """Return whether something was read; fail for any error that is no sentence."""
    try:
        read()
    except (UserError, *expected) as error:
        assert str(error)
        return False
    return True


def in_a_file(data: bytes, name: str, read: Callable[[Path], object]) -> bool:
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        path.write_bytes(data)
        return attempt(lambda: read(path))


# Bundles


@cache
def members() -> dict[str, bytes]:
    """Those of the bundle that ships which make its fp32 step, so that they are small."""
    bundle = Bundle.open(s2svos.default_bundle())
    manifest = bundle.manifest.to_json()
    graphs = {"fp32": {name: bundle.manifest.graphs["fp32"][name] for name in ("init", "step")}}
    kept = {piece for one in graphs["fp32"].values() for piece in bundle.manifest.pieces(one)}
    data = {name: bundle.read(name)[:3000] for name in kept}
    manifest |= {
        "graphs": graphs,
        "gpu_graphs": graphs,
        "weights": {
            name: bundle.manifest.weights.get(name, ()) for name in graphs["fp32"].values()
        },
        "members": {name: hashlib.sha256(one).hexdigest() for name, one in data.items()},
    }
    return {"manifest.json": json.dumps(manifest).encode(), **data}


def sealed(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
        archive.comment = b"0" * SEAL
    return resealed(file.getvalue())


def resealed(data: bytes) -> bytes:
    body = data[:-SEAL]
    return body + hashlib.sha256(body).hexdigest().encode()


FIELDS = [
    "format",
    "contract",
    "graphs",
    "gpu_graphs",
    "members",
    "weights",
    "parity",
    "network",
    "plans",
    "tools",
]


def use(path: Path) -> None:
    bundle = Bundle.open(path)
    for one in (bundle, bundle.for_gpu()):
        for precision in one.precisions:
            for graph in one.graphs(precision).values():
                graph()


@fuzz(300)
@given(EDITS)
def test_bundle(edits: Edits) -> None:
    in_a_file(resealed(edited(sealed(members()), edits)), "x.s2s", use)


@fuzz(300)
@given(st.lists(st.sampled_from(FIELDS), min_size=1, max_size=3), JSON)
@example(["contract", "height"], 10**9)
@example(["contract", "states", 0, "shape"], [1 << 40])
@example(["weights"], {"step.onnx": ["init.onnx"] * 100_000})
def test_manifest(keys: list[Any], value: Any) -> None:
    manifest = json.loads(members()["manifest.json"])
    place = manifest
    for key in keys[:-1]:
        place = place[key] if isinstance(place, (dict, list)) and key in (place or {}) else manifest
    if isinstance(place, dict):
        place[keys[-1]] = value
    text = json.dumps(manifest).encode()
    attempt(lambda: Manifest.from_json(text), ValueError)
    in_a_file(sealed(members() | {"manifest.json": text}), "x.s2s", use)


@fuzz(300)
@given(JSON | st.binary(max_size=64))
def test_manifest_of_anything(value: Any) -> None:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    attempt(lambda: Manifest.from_json(text), ValueError)


@fuzz(300)
@given(EDITS)
def test_graph(edits: Edits) -> None:
    model = b"".join(data for name, data in members().items() if name.endswith("onnx"))
    attempt(lambda: check_graph(edited(model, edits)), ValueError)


# Checkpoints


@cache
def checkpoint() -> bytes:
    file = io.BytesIO()
    network = config_to_json(LiteConfig(64, 96, hidden=8, first_key=8, last_key=8))
    torch.save({"format": 1, "network": network, "weights": {"a": torch.ones(3)}}, file)
    return file.getvalue()


@fuzz(150)
@given(EDITS)
def test_checkpoint(edits: Edits) -> None:
    in_a_file(edited(checkpoint(), edits), "x.pt", read_checkpoint)


@fuzz(300)
@given(st.sampled_from(["preset", "height", "width", "hidden", "backbone", "widths", "x"]), JSON)
@example("hidden", -1)
@example("hidden", 10**9)
@example("height", True)
@example("widths", [16])
def test_checkpoint_values(key: str, value: Any) -> None:
    network = config_to_json(LiteConfig()) | {key: value}
    attempt(lambda: checkpoint_config({"network": network}, Path("x.pt")))
    attempt(lambda: checkpoint_config({"network": value}, Path("x.pt")))


# Pictures and videos


@cache
def pictures() -> dict[str, bytes]:
    found = {}
    ids = Image.fromarray((picture(0)[..., 0] > 128).astype(np.uint8) * 3)
    indexed = ids.convert("P")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image, options in [
        ("a.png", ids, {}),
        ("b.png", indexed, {"bits": 2}),
        ("c.png", Image.fromarray(picture(0)[..., 2].astype(np.uint16) * 200), {"exif": exif}),
        ("d.jpg", Image.fromarray(picture(0)), {"exif": exif}),
        ("e.tif", ids, {}),
        ("f.bmp", ids, {}),
        ("g.webp", Image.fromarray(picture(0)), {}),
    ]:
        file = io.BytesIO()
        image.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper()), **options)
        found[name] = file.getvalue()
    return found


@fuzz(400)
@given(st.sampled_from("abcdefg"), EDITS)
def test_picture(which: str, edits: Edits) -> None:
    name = next(name for name in pictures() if name.startswith(which))

    def read(path: Path) -> None:
        attempt(lambda: read_first_mask(path, size=(48, 64)))
        attempt(lambda: read_rgb(path), *BROKEN)

    in_a_file(edited(pictures()[name], edits), name, read)


@cache
def videos() -> dict[str, bytes]:
    with TemporaryDirectory() as folder:
        paths = [
            write_video(Path(folder, "v.mp4"), 6),
            write_video(Path(folder, "v.mkv"), 6),
            write_video(Path(folder, "v.ts"), 6),
            write_video(Path(folder, "v.avi"), 6, codec="mpeg4"),
        ]
        return {path.suffix: path.read_bytes() for path in paths}


@fuzz(150)
@given(st.sampled_from([".mp4", ".mkv", ".ts", ".avi"]), EDITS)
@example(".mkv", [(476, b"\x80", "o")])  # a title that is no UTF-8
def test_video(suffix: str, edits: Edits) -> None:
    def read(path: Path) -> None:
        video = Video(path)
        times = [time for _, _, time in video.timed()]
        assert times == sorted(set(times))

    in_a_file(edited(videos()[suffix], edits), f"v{suffix}", read)


# Texts


@fuzz(300)
@given(JSON | st.text(max_size=80))
@example("a: " + "[" * 2000)
@example("&a [*a, *a]")
@example("network: {preset: lite, height: .inf}")
def test_config(value: Any) -> None:
    text = value if isinstance(value, str) else yaml.safe_dump({"base": "lite", "data": value})
    in_a_file(text.encode(errors="replace"), "x.yaml", lambda path: load_config(str(path)))


@fuzz(150)
@given(st.lists(st.text(max_size=12), max_size=4) | st.binary(max_size=40))
@example(["../../victim"])
@example(["/etc/passwd"])
@example(["a" * 5000])
def test_davis_list(lines: list[str] | bytes) -> None:
    data = lines if isinstance(lines, bytes) else "\n".join(lines).encode(errors="replace")
    with TemporaryDirectory() as folder:
        root = Path(folder, "DAVIS")
        for name in ("JPEGImages", "Annotations"):
            (root / name / "480p").mkdir(parents=True)
        (root / "ImageSets" / "2017").mkdir(parents=True)
        (root / "ImageSets" / "2017" / "val.txt").write_bytes(data)
        assert not attempt(lambda: layouts.davis(root, 2017, "val"))


@fuzz(200)
@given(st.dictionaries(st.text(max_size=12), JSON, max_size=3) | JSON)
@example({"../../victim": {"objects": {"1": {"frames": ["0"]}}}})
def test_meta_of_youtube_vos(value: Any) -> None:
    with TemporaryDirectory() as folder:
        root = Path(folder, "valid")
        root.mkdir()
        (root / "meta.json").write_text(json.dumps({"videos": value}))
        assert not attempt(lambda: layouts.youtube_vos(Path(folder), "valid"))


LETTERS = st.text(
    st.characters(codec="utf-8", exclude_characters="/?#&;=@:[] \t\n\r"), min_size=5, max_size=12
)


@fuzz(500)
@given(st.text(max_size=60))
def test_address_of_anything(text: str) -> None:
    if is_address(text):
        assert address_name(text)
        assert stem(text)


@fuzz(500)
@given(LETTERS, st.sampled_from(["rtsp", "http", "srt"]), st.booleans())
def test_address_tells_no_secret(secret: str, scheme: str, port: bool) -> None:
    secret = f"Zq{secret}"
    host = "host:554" if port else "host"
    for address in (
        f"{scheme}://me:{secret}@{host}/live",
        f"{scheme}://{host}/live?key={secret}&a=b",
        f"{scheme}://{host}/live#{secret}",
        f"{scheme}://{host}/user=a&password={secret}",
    ):
        assert secret not in address_name(address), HIDDEN
        assert secret not in stem(address)


def test_the_inputs_are_read_as_they_are(tmp_path: Path) -> None:
    """Else the targets would try nothing but the first line of each reader."""
    for name, data in pictures().items():
        (tmp_path / name).write_bytes(data)
        assert read_rgb(tmp_path / name).size
    for suffix, data in videos().items():
        (tmp_path / f"v{suffix}").write_bytes(data)
        assert len(list(Video(tmp_path / f"v{suffix}"))) == 6
    (tmp_path / "x.pt").write_bytes(checkpoint())
    assert checkpoint_config(read_checkpoint(tmp_path / "x.pt"), tmp_path).hidden == 8  # type: ignore[union-attr]
    (tmp_path / "x.s2s").write_bytes(sealed(members()))
    with pytest.raises(UserError, match="cut off"):  # whose graphs are, so that they are small
        use(tmp_path / "x.s2s")
