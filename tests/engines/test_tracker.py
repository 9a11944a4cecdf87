"""What every engine must do, on the bundle that ships."""

import importlib.util
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
from numpy.typing import NDArray

import s2svos
from s2svos.demo.render import render
from s2svos_engines.engine import usable_engines
from s2svos_engines.errors import UserError
from s2svos_engines.geometry import merge
from s2svos_engines.tracker import Stream, Tracker

FRAMES = 8
Clip = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture(scope="module", params=usable_engines())
def tracker(request: pytest.FixtureRequest) -> Tracker:
    return s2svos.load(engine=request.param)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=FRAMES))


@pytest.fixture(scope="module")
def other_clip() -> Clip:
    return list(render(length=FRAMES, seed=3))


def run(stream: Stream, clip: Clip) -> list[NDArray[np.uint8]]:
    return [stream.step(frame).copy() for frame, _ in clip[1:]]


def test_follows_both_objects(tracker: Tracker, clip: Clip) -> None:
    stream = tracker.open(*clip[0])
    assert (stream.labels == clip[0][1]).all()
    labels = run(stream, clip)[-1]
    truth = clip[-1][1]
    assert labels.shape == truth.shape
    assert labels.dtype == np.uint8
    for one in (1, 2):
        union = ((labels == one) | (truth == one)).sum()
        assert ((labels == one) & (truth == one)).sum() / union > 0.6


def test_interleaved_streams_are_exactly_what_they_are_alone(
    tracker: Tracker, clip: Clip, other_clip: Clip
) -> None:
    alone = [run(tracker.open(*one[0]), one) for one in (clip, other_clip)]
    first, second = tracker.open(*clip[0]), tracker.open(*other_clip[0])
    for t in range(1, FRAMES):
        assert (first.step(clip[t][0]) == alone[0][t - 1]).all()
        assert (second.step(other_clip[t][0]) == alone[1][t - 1]).all()


def test_objects_together_are_the_streams_of_each_merged(tracker: Tracker, clip: Clip) -> None:
    frame, mask = clip[0]
    ids = np.array([1, 2], np.uint8)
    together = tracker.open(frame, mask)
    each = [tracker.open(frame, np.where(mask == one, mask, 0).astype(np.uint8)) for one in ids]
    for frame, _ in clip[1:]:
        labels = together.step(frame)
        small = together._fit.shrink(frame)
        masks = []
        for stream in each:
            assert stream._home
            masks.append(stream._home.step(small)[0].copy())
        merged = merge(np.stack(masks), ids, together._fit)
        # Batched convolutions may round differently: a pixel at exactly one half may flip.
        assert (labels != merged).mean() < 1e-5


def test_objects_that_enter_and_leave_do_not_disturb_the_others(
    tracker: Tracker, clip: Clip
) -> None:
    frame, mask = clip[0]
    first = np.where(mask == 1, mask, 0).astype(np.uint8)
    alone = [labels == 1 for labels in run(tracker.open(frame, first), clip)]
    stream = tracker.open(frame, first)
    for t in range(1, FRAMES):
        labels = stream.step(clip[t][0])
        if 2 not in stream.ids:
            # Batched convolutions round differently.
            assert ((labels == 1) != alone[t - 1]).mean() < 1e-4
        if t == 2:
            late = np.where(clip[t][1] == 2, 9, 0).astype(np.uint8)
            assert set(np.unique(stream.add(clip[t][0], late))) == {0, 1, 9}
            assert stream.ids.tolist() == [1, 9]
        if t == 4:
            stream.remove(9)
            assert stream.ids.tolist() == [1]
    stream.remove(1)
    assert not stream.step(frame).any()


def test_object_order_does_not_matter(tracker: Tracker, clip: Clip) -> None:
    frame, mask = clip[0]
    swapped = np.choose(mask, [0, 2, 1]).astype(np.uint8)
    straight, crossed = tracker.open(frame, mask), tracker.open(frame, swapped)
    for frame, _ in clip[1:]:
        a, b = straight.step(frame), crossed.step(frame)
    assert (np.choose(a, [0, 2, 1]) != b).mean() < 1e-4


def test_frames_need_not_be_contiguous(tracker: Tracker, clip: Clip) -> None:
    frame, mask = clip[0]
    mirrored = tracker.open(frame[:, ::-1], mask[:, ::-1])
    copied = tracker.open(frame[:, ::-1].copy(), mask[:, ::-1].copy())
    frame = clip[1][0]
    assert (mirrored.step(frame[:, ::-1]) == copied.step(frame[:, ::-1].copy())).all()


@pytest.mark.parametrize("size", [(64, 64), (101, 333), (400, 200)])
def test_odd_sizes(tracker: Tracker, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[10:40, 10:40] = 200
    labels = tracker.open(frame, mask).step(frame)
    assert labels.shape == size
    assert set(np.unique(labels)) <= {0, 200}


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


def test_engines_agree(clip: Clip) -> None:
    runs = [run(s2svos.load(engine=name).open(*clip[0]), clip) for name in usable_engines()]
    for a, b in zip(*runs, strict=True):
        assert (a != b).mean() < 1e-3


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
    without("openvino", "onnxruntime")
    with pytest.raises(UserError, match=r"s2svos\[cpu\]"):
        s2svos.load()
    with pytest.raises(UserError, match="choose auto"):
        s2svos.load(engine="tpu")
