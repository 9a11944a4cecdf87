"""The tracker on the bundle that ships, on every engine that infer may choose."""

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import s2svos
from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.errors import UserError
from s2svos_engines.registry import SLOW_ENGINES, usable_engines
from s2svos_engines.tracker import Tracker

FRAMES = 8
_CPU = ("openvino", "onnxruntime")
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


def test_masks_as_callers_have_them(tracker: Tracker, clip: Clip) -> None:
    frame, mask = clip[0]
    bools = tracker.open(frame, mask == 2)  # as SAM gives them
    assert (bools.labels == (mask == 2)).all()
    assert bools.ids.tolist() == [1]
    wide = tracker.open(frame, mask.astype(np.int64))
    assert wide.labels.dtype == np.uint8
    assert wide.ids.tolist() == [1, 2]
    for wrong, words in [
        (mask.tolist(), "not list"),
        (None, "not NoneType"),
        (mask / 2, "float64"),
        (mask[..., None], r"\[\d+, \d+, 1\]"),
        (mask.astype(np.int16) * 300, "ids from 0 to 600"),
        (mask.astype(np.int16) - 1, "ids from -1 to 1"),
    ]:
        with pytest.raises(UserError, match=words):
            tracker.open(frame, wrong)
    with pytest.raises(UserError, match=r"\[0, 0, 3\]"):
        tracker.open(frame[:0, :0], mask[:0, :0])


def test_a_stream_in_use_says_so(tracker: Tracker, clip: Clip) -> None:
    stream = tracker.open(*clip[0])
    frames = [frame for frame, _ in clip[1:]]
    expected = stream.steps(frames)
    stream = tracker.open(*clip[0])
    following = stream.follow(iter(frames))
    first = next(following)
    assert (first == expected[0]).all()
    for use in (
        lambda: stream.step(frames[0]),
        lambda: next(stream.follow(frames)),
        lambda: stream.remove(1),
        lambda: stream.add(frames[0], np.uint8(3) * (clip[0][1] == 0)),
        lambda: tracker.step_many({stream: frames[0], tracker.open(*clip[0]): frames[0]}),
    ):
        with pytest.raises(UserError, match="The stream is in use"):
            use()
    assert all((a == b).all() for a, b in zip(following, expected[1:], strict=True))
    stream.remove(1)
    assert stream.ids.tolist() == [2]


def test_a_stream_goes_on_after_follow_is_closed(tracker: Tracker, clip: Clip) -> None:
    taken = []

    def frames() -> Iterator[NDArray[np.uint8]]:
        for frame, _ in clip[1:]:
            taken.append(frame)
            yield frame

    stream, other = tracker.open(*clip[0]), tracker.open(*clip[0])
    following = stream.follow(frames())
    next(following)
    following.close()  # type: ignore[attr-defined]
    for frame in taken:
        other.step(frame)
    assert (stream.step(clip[-1][0]) == other.step(clip[-1][0])).mean() > 0.999


@pytest.mark.parametrize("threads", [0, -1, "4", 1.5, 10_000])
def test_threads_that_make_no_sense(threads: object) -> None:
    with pytest.raises(UserError, match=r"cannot have .* threads; choose a number from 1 to"):
        s2svos.load(threads=threads)  # type: ignore[arg-type]


def test_arguments_that_are_none_of_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no window 'on'; choose auto or off"):
        s2svos.load(window="on")
    with pytest.raises(UserError, match="holds fp32, fp16, int8, not fp8; choose another"):
        s2svos.load(precision="fp8")
    with pytest.raises(UserError, match="is a folder"):
        s2svos.load(tmp_path)


@pytest.mark.parametrize("engine", [name for name in usable_engines() if name in _CPU])
def test_a_graph_that_an_engine_refuses(engine: str, tmp_path: Path) -> None:
    good = Bundle.open(s2svos.default_bundle())
    relu_alone = b':\x08\n\x06"\x04Relu'  # a graph of one node without inputs
    graphs = {"fp32": {"init": relu_alone, "step": relu_alone}}
    write_bundle(tmp_path / "x.s2s", contract=good.contract, graphs=graphs, facts={})
    with pytest.raises(UserError, match=r"cannot be run by .*another --engine"):
        s2svos.load(tmp_path / "x.s2s", engine=engine).open(*next(iter(render(length=2))))


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
