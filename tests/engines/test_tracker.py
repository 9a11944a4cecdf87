"""The tracker on the bundle that ships, on every engine that infer may choose."""

import importlib.util
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from studio_server import HEIGHT, WIDTH, pond

import s2svos
from s2svos.sample.render import render
from s2svos.video.masks import davis_palette, read_first_mask, write_mask
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


@pytest.mark.parametrize(
    ("bf16", "flags", "measured", "chosen"),
    [
        (True, {"avx2", "avx512_vnni"}, {"int8": 0.985, "fp16": 0.99}, "int8"),
        (True, {"avx2", "avx512_vnni"}, {"int8": 0.97, "fp16": 0.99}, "fp16"),
        (True, {"avx2", "avx512_vnni"}, {"int8": 0.97, "fp16": 0.97}, "fp32"),
        (False, {"avx2", "avx_vnni"}, {"int8": 0.985, "fp16": 0.99}, "int8"),
        (False, {"avx2"}, {"int8": 0.985, "fp16": 0.99}, "int8"),
        (False, {"sse4_2"}, {"int8": 0.985, "fp16": 0.99}, "fp32"),
    ],
)
def test_auto_is_the_fastest_precision_that_was_found_to_hold(
    bf16: bool,
    flags: set[str],
    measured: dict[str, float],
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    module = importlib.import_module("s2svos_engines.backends.openvino")
    monkeypatch.setattr(module, "has_bf16", lambda: bf16)
    monkeypatch.setattr("s2svos_engines.cpu.cpu_flags", lambda: frozenset(flags))
    good = Bundle.open(s2svos.default_bundle())
    small = {name: good.graph(name) for name in ("init", "step")}
    path, precisions = tmp_path / "x.s2s", ("fp32", "fp16", "int8")

    def write(engines: list[str]) -> None:
        parity = {name: {"mean_iou": iou, "engines": engines} for name, iou in measured.items()}
        graphs = dict.fromkeys(precisions, small)
        write_bundle(path, contract=good.contract, graphs=graphs, facts={"parity": parity})

    write(["openvino", "openvino bf16"])
    engine = s2svos.load(path, engine="openvino", precision="auto").engine
    assert engine.precision == chosen
    assert engine.title == ("openvino bf16" if bf16 and chosen != "fp32" else "openvino")
    assert s2svos.load(path, engine="onnxruntime", precision="auto").engine.precision == "fp32"
    write(["openvino"])  # by a processor without bf16
    engine = s2svos.load(path, engine="openvino", precision="auto").engine
    assert (engine.precision, engine.title) == (chosen, "openvino")
    write(["onnxruntime"])  # what was not measured does not count
    assert s2svos.load(path, engine="openvino", precision="auto").engine.precision == "fp32"
    found = s2svos.load(path, engine="onnxruntime", precision="auto").engine.precision
    # Which computes fp16 in fp32.
    assert found == ("int8" if measured["int8"] > 0.98 and "avx2" in flags else "fp32")


# Corrections, confidence, sloppy masks


def iou(labels: NDArray[np.uint8], truth: NDArray[np.uint8], one: int) -> float:
    union = ((labels == one) | (truth == one)).sum()
    return float(((labels == one) & (truth == one)).sum() / union)


def test_a_correction_is_what_is_remembered(tracker: Tracker, clip: Clip) -> None:
    frame, truth = clip[0]
    floor = np.zeros_like(truth)
    floor[300:340, 20:120] = 2  # stones, which are no turtle
    stream = tracker.open(frame, np.where(truth == 1, truth, floor))
    stream.step(clip[1][0])
    turtle = np.where(clip[1][1] == 2, 2, 0)
    koi_before = stream.labels == 1
    labels = stream.correct(clip[1][0], turtle)
    assert ((labels == 2) == (turtle == 2)).all()
    assert ((labels == 1) == (koi_before & (turtle == 0))).all()
    assert stream.ids.tolist() == [1, 2]
    for frame, _ in clip[2:]:
        labels = stream.step(frame)
    assert iou(labels, clip[-1][1], 1) > 0.6
    assert iou(labels, clip[-1][1], 2) > 0.6


def test_a_correction_brings_new_objects_and_ids_rise(tracker: Tracker, clip: Clip) -> None:
    frame, truth = clip[0]
    stream = tracker.open(frame, np.where(truth == 2, 2, 0))
    assert stream.ids.tolist() == [2]
    stream.correct(frame, np.where(truth == 1, 1, 0))
    assert stream.ids.tolist() == [1, 2]
    expected = tracker.open(frame, truth)
    for frame, _ in clip[1:4]:
        assert (stream.step(frame) == expected.step(frame)).mean() > 0.999
    with pytest.raises(UserError, match="no object"):
        stream.correct(frame, np.zeros_like(truth))
    assert "objects [1, 2]" in repr(stream)


def test_corrections_while_the_window_moves(clip: Clip) -> None:
    tracker = s2svos.load(window="auto")
    frame, truth = clip[0]
    stream = tracker.open(frame, np.where(truth == 2, 2, 0))
    stream.correct(frame, np.where(truth == 1, 1, 0))
    for index, (frame, truth) in enumerate(clip[1:]):
        labels = stream.step(frame)
        if index == 3:
            stream.correct(frame, truth)
        if index in (4, 5):
            assert iou(labels, truth, 1) > 0.5
            assert iou(labels, truth, 2) > 0.8


def test_confidence_tells_what_is_seen(tracker: Tracker, clip: Clip) -> None:
    stream = tracker.open(*clip[0])
    assert stream.confidence == {}
    stream.step(clip[1][0])
    assert list(stream.confidence) == [1, 2]
    turtle = stream.confidence[2]
    assert not turtle.lost
    assert 0.5 < turtle.certainty <= 1
    assert 0 < turtle.area < 0.3
    assert turtle.growth == 1  # nothing is known of the frame before
    followed = stream.follow(frame for frame, _ in clip[2:4])
    next(followed)
    assert stream.confidence[2].growth != 1
    followed.close()
    nothing = np.full_like(clip[0][0], 120)
    for _ in range(12):
        stream.step(nothing)
    assert stream.confidence[1].lost
    assert stream.confidence[1].doubtful
    assert stream.confidence[1].certainty == 0


def test_a_sloppy_mask_snaps_to_its_object(tracker: Tracker, clip: Clip) -> None:
    frame, truth = clip[0]
    turtle = np.where(truth == 2, 2, 0).astype(np.uint8)
    thin = cv2.erode(turtle, np.ones((9, 9), np.uint8))
    snapped = tracker.snap(frame, thin)
    assert iou(snapped, turtle, 2) > iou(thin, turtle, 2) + 0.05  # 0.68 to 0.83


def test_videos_in_a_line(tmp_path: Path) -> None:
    video = pond(tmp_path / "pond.mp4", 6)
    truth = [ids for _, ids in render(6, HEIGHT, WIDTH)]
    frames = s2svos.read(video)
    stream = s2svos.load().open(next(frames), truth[0])
    assert len(list(stream.follow(frames))) == 5
    for index in (0, 3):
        write_mask(tmp_path / f"{index}.png", truth[index], davis_palette())
    later = {3: tmp_path / "3.png"}
    summary = s2svos.infer(video, tmp_path / "0.png", tmp_path / "out", later=later)
    assert summary.frames == 6
    assert [one.id for one in summary.objects] == [1, 2]
    masks = sorted((tmp_path / "out" / "masks").iterdir())
    assert len(masks) == 6
    kept = read_first_mask(masks[3], size=(HEIGHT, WIDTH)).ids
    assert (kept == truth[3]).all()
