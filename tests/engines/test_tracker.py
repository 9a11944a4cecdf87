"""The tracker on the bundle that ships, on every engine that infer may choose."""

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import s2svos
from s2svos.sample.render import render
from s2svos_engines.errors import UserError
from s2svos_engines.registry import SLOW_ENGINES, usable_engines
from s2svos_engines.tracker import Tracker

FRAMES = 8
Clip = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture(
    scope="module", params=[name for name in usable_engines() if name not in SLOW_ENGINES]
)
def tracker(request: pytest.FixtureRequest) -> Tracker:
    return s2svos.load(engine=request.param)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=FRAMES))


def test_follows_both_objects(tracker: Tracker, clip: Clip) -> None:
    stream = tracker.open(*clip[0])
    assert (stream.labels == clip[0][1]).all()
    for frame, _ in clip[1:]:
        labels = stream.step(frame)
    truth = clip[-1][1]
    assert labels.shape == truth.shape
    assert labels.dtype == np.uint8
    for one in (1, 2):
        union = ((labels == one) | (truth == one)).sum()
        assert ((labels == one) & (truth == one)).sum() / union > 0.6


def test_mistakes_are_named(tracker: Tracker, clip: Clip) -> None:
    frame, mask = clip[0]
    stream = tracker.open(frame, mask)
    with pytest.raises(UserError, match="no object"):
        tracker.open(frame, np.zeros_like(mask))
    with pytest.raises(UserError, match="size of its first frame"):
        stream.step(frame[:-1])
    with pytest.raises(UserError, match="followed already"):
        stream.add(frame, mask)
    with pytest.raises(UserError, match="not followed"):
        stream.remove(77)
    with pytest.raises(UserError, match="uint8"):
        tracker.open(frame.astype(np.float32), mask)  # type: ignore[arg-type]
    with pytest.raises(UserError, match=r"not list; convert it with numpy\.asarray"):
        stream.step(frame.tolist())


def test_missing_engine_says_which_extra_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def without(*gone: str) -> None:
        def fake(name: str, package: str | None = None) -> ModuleSpec | None:
            return None if name in gone else find(name, package)

        monkeypatch.setattr(importlib.util, "find_spec", fake)

    without("openvino")
    assert s2svos.load().engine_name == "onnxruntime"
    with pytest.raises(UserError, match=r"s2svos\[cpu\]"):
        s2svos.load(engine="openvino")
    for package in ("torch", "onnx"):
        without(package)
        with pytest.raises(UserError, match=r"s2svos\[train\]"):
            s2svos.load(engine="torch")
    without("openvino", "onnxruntime")
    with pytest.raises(UserError, match=r"s2svos\[cpu\]"):
        s2svos.load()
    with pytest.raises(UserError, match="choose auto"):
        s2svos.load(engine="tpu")


def test_an_engine_whose_library_is_broken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime").mkdir()
    broken = 'raise ImportError("libonnxruntime.so.1: cannot open shared object file")\n'
    (tmp_path / "onnxruntime" / "__init__.py").write_text(broken)
    monkeypatch.syspath_prepend(tmp_path)
    for name in [n for n in sys.modules if n.startswith("onnxruntime")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "s2svos_engines.backends.onnxruntime", raising=False)
    with pytest.raises(UserError, match=r"onnxruntime is installed but does not load .*libonnx"):
        s2svos.load(engine="onnxruntime")
