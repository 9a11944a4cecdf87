"""Compiled graphs that are kept: read back, checked, bounded, and the same to the bit."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import wait_until

import s2svos
from s2svos.sample.render import render
from s2svos_engines.backends import openvino_cache
from s2svos_engines.backends.openvino_cache import WRITER, CompiledFiles, compiled_folder
from s2svos_engines.backends.openvino_graphs import CORE
from s2svos_engines.backends.openvino_library import ov
from s2svos_engines.bundle import Bundle
from s2svos_engines.registry import load_engine
from s2svos_engines.tracker import Tracker


def model(value: float) -> ov.Model:
    ops = ov.opset13
    given = ops.parameter([1, 4], np.float32)
    return ov.Model([ops.add(given, ops.constant(np.full((1, 4), value, np.float32)))], [given])


def never() -> ov.Model:
    raise AssertionError("it was compiled anew")


def written() -> None:
    for thread in threading.enumerate():
        if thread.name == WRITER:
            thread.join()


def result(compiled: ov.CompiledModel) -> float:
    return float(compiled(np.zeros((1, 4), np.float32))[0][0, 0])


SETTINGS: dict[str, Any] = {"INFERENCE_NUM_THREADS": 1}


def test_what_was_compiled_is_read_back(tmp_path: Path) -> None:
    files = CompiledFiles(CORE, tmp_path)
    assert result(files.compiled(("a", 1), SETTINGS, lambda: model(3))) == 3
    written()
    again = CompiledFiles(CORE, tmp_path)
    assert result(again.compiled(("a", 1), SETTINGS, never)) == 3
    assert result(again.compiled(("a", 2), SETTINGS, lambda: model(5))) == 5
    other = {"INFERENCE_NUM_THREADS": 2}
    assert result(again.compiled(("a", 1), other, lambda: model(7))) == 7


def test_damaged_files_are_compiled_anew(tmp_path: Path) -> None:
    files = CompiledFiles(CORE, tmp_path)
    files.compiled(("a",), SETTINGS, lambda: model(3))
    written()
    (path,) = tmp_path.glob("*.blob")
    whole = path.read_bytes()
    for damaged in (b"", whole[:-1], whole[:40] + b"\0" + whole[41:], b"\0" * len(whole)):
        path.write_bytes(damaged)
        assert result(files.compiled(("a",), SETTINGS, lambda: model(4))) == 4
        written()


def test_a_folder_that_others_can_write_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("S2SVOS_CACHE")
    folder = compiled_folder()
    assert folder == tmp_path / "s2svos" / "openvino"
    if os.name != "nt":
        folder.chmod(0o777)
        assert compiled_folder() is None
        folder.chmod(0o700)
    monkeypatch.setenv("S2SVOS_CACHE", "off")
    assert compiled_folder() is None


def test_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = CompiledFiles(CORE, tmp_path)
    for number in range(3):
        files.compiled((number,), SETTINGS, lambda: model(3))
        written()
        for path in tmp_path.glob("*.blob"):
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))
    size = max(path.stat().st_size for path in tmp_path.glob("*.blob"))
    before = {path.name for path in tmp_path.glob("*.blob")}
    files.compiled((0,), SETTINGS, never)  # the oldest, but used just now
    monkeypatch.setattr(openvino_cache, "_MOST", int(3.5 * size))
    files.compiled((3,), SETTINGS, lambda: model(3))
    written()
    assert len(list(tmp_path.glob("*.blob"))) == 3
    files.compiled((0,), SETTINGS, never)
    assert len(before & {path.name for path in tmp_path.glob("*.blob")}) == 2


def test_masks_are_the_same_to_the_bit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("S2SVOS_CACHE")
    clip = list(render(6, 120, 200))
    found = []
    for _ in range(2):
        stream = s2svos.load(engine="openvino", threads=2).open(*clip[0])
        labels = np.stack(list(stream.follow(frame for frame, _ in clip[1:])))
        found.append((labels, stream.states()))
        written()
    assert list((tmp_path / "s2svos" / "openvino").glob("*.blob"))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    for first, second in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(first, second)


def test_what_is_expected_of_any_number_of_objects_is_the_encoder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled: list[str] = []
    keys = CompiledFiles.compiled

    def noted(self: CompiledFiles, key: tuple[Any, ...], *rest: Any) -> ov.CompiledModel:
        compiled.append(key[1])
        return keys(self, key, *rest)

    monkeypatch.setattr(CompiledFiles, "compiled", noted)
    tracker = s2svos.load(engine="openvino", threads=2)
    tracker.engine.expect(None)
    wait_until(lambda: compiled)
    clip = list(render(4, 120, 200))
    list(tracker.open(*clip[0]).follow(frame for frame, _ in clip[1:]))
    assert compiled[0] == "encoder"
    assert sorted(compiled) == ["encoder", "full", "recurrent"]


def test_nothing_is_kept_of_a_bundle_for_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("S2SVOS_CACHE")
    (clip,) = render(1, 120, 200)
    for lasting in (False, True):
        bundle = Bundle.open(s2svos.default_bundle(), lasting=lasting)
        Tracker(bundle, load_engine(bundle, "openvino", threads=1)).open(*clip)
        written()
        assert any((tmp_path / "s2svos").rglob("*.blob")) == lasting
