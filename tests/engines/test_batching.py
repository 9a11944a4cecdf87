"""Many streams, at the same time or in one call."""

import gc
import weakref
from collections.abc import Sequence
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from small_graphs import small_contract, small_graph

from s2svos.sample.render import render
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.backends.onnxruntime import OnnxRuntimeEngine
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.dynamic_batcher import DynamicBatcher
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine
from s2svos_engines.tracker import Stream, Tracker

Clip = list[tuple[Frame, Labels]]


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    """Of other sizes and object counts, each from another frame on."""
    sizes = [(64, 112), (48, 80), (90, 70)]
    clips = [list(render(length=24, height=h, width=w))[i:] for i, (h, w) in enumerate(sizes)]
    frame, ids = clips[1][0]
    clips[1][0] = frame, np.where(ids == 1, ids, 0).astype(np.uint8)  # the koi alone
    return clips


@pytest.fixture(scope="module", params=["lite", "paper"])
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    graphs = {name: small_graph(request.param, name) for name in ("init", "step", "batch")}
    path = tmp_path_factory.mktemp("batch") / "x.s2s"
    write_bundle(path, contract=small_contract(request.param), graphs={"fp32": graphs}, facts={})
    return Bundle.open(path)


class OneCall(OnnxRuntimeEngine):
    """Has the streams in one call, as the engines of a GPU do."""

    parallel = None  # type: ignore[assignment]


@pytest.fixture(params=["onnxruntime", "openvino", "one call"])
def tracker(bundle: Bundle, request: pytest.FixtureRequest) -> Tracker:
    if request.param == "one call":
        return Tracker(bundle, OneCall(bundle, threads=1))
    return Tracker(bundle, load_engine(bundle, request.param, threads=2))


def opened(tracker: Tracker, clips: Sequence[Clip]) -> list[Stream]:
    return [tracker.open(*clip[0]) for clip in clips]


def alone(tracker: Tracker, clip: Clip, length: int) -> list[Labels]:
    stream = tracker.open(*clip[0])
    return [stream.step(frame) for frame, _ in clip[1 : length + 1]]


def same(labels: Labels, wanted: Labels) -> bool:
    # Convolutions of another batch size, or on other threads, sum in another order.
    return labels.shape == wanted.shape and float((labels != wanted).mean()) <= 2e-3


def test_together_as_alone(tracker: Tracker, clips: list[Clip]) -> None:
    streams = opened(tracker, clips)
    wanted = [alone(tracker, clip, 12) for clip in clips]
    assert len({len(stream.ids) for stream in streams}) > 1
    assert any(labels.any() for labels in wanted[0])
    for t in range(1, 13):
        found = tracker.step_many({s: c[t][0] for s, c in zip(streams, clips, strict=True)})
        for stream, each in zip(streams, wanted, strict=True):
            assert same(found[stream], each[t - 1])
            assert found[stream] is stream.labels


def test_streams_join_and_leave_at_any_frame(tracker: Tracker, clips: list[Clip]) -> None:
    wanted = [alone(tracker, clip, 8) for clip in clips]
    streams, at = opened(tracker, clips), [0, 0, 0]
    for present in [(0, 1), (0, 1, 2), (2,), (2, 0), (1,), (0, 1, 2), (2, 1, 0), (1, 2), (0, 1, 2)]:
        for index in present:
            at[index] += 1
        found = tracker.step_many({streams[i]: clips[i][at[i]][0] for i in present})
        for index in present:
            assert same(found[streams[index]], wanted[index][at[index] - 1])


def test_objects_come_and_go_in_a_batch(tracker: Tracker, clips: list[Clip]) -> None:
    def follow(other: bool) -> list[Labels]:
        one, beside = opened(tracker, clips[:2])
        seen = []
        for t in range(1, 9):
            frames = {one: clips[0][t][0], **({beside: clips[1][t][0]} if other else {})}
            seen.append(tracker.step_many(frames)[one])
            if t == 3:
                one.remove(1)
            elif t == 5:
                frame, ids = clips[0][5]
                one.add(frame, np.where(ids == 1, 7, 0).astype(np.uint8))
        assert one.ids.tolist() == [2, 7]
        return seen

    assert all(map(same, follow(True), follow(False)))


def test_nothing_moves_where_one_frame_is_wrong(tracker: Tracker, clips: list[Clip]) -> None:
    one, other = opened(tracker, clips[:2])
    with pytest.raises(UserError, match="size of its first frame"):
        tracker.step_many({one: clips[0][1][0], other: clips[0][1][0]})
    found = tracker.step_many({one: clips[0][1][0], other: clips[1][1][0]})
    assert same(found[one], alone(tracker, clips[0], 1)[0])


def test_a_stream_without_objects_is_background(tracker: Tracker, clips: list[Clip]) -> None:
    streams = opened(tracker, clips)
    streams[1].remove(1)
    found = tracker.step_many({s: c[1][0] for s, c in zip(streams, clips, strict=True)})
    assert not found[streams[1]].any()
    assert same(found[streams[0]], alone(tracker, clips[0], 1)[0])


def test_gathered_frames_are_stepped_in_order(tracker: Tracker, clips: list[Clip]) -> None:
    wanted = [alone(tracker, clip, 6) for clip in clips]
    streams = opened(tracker, clips)
    batcher = DynamicBatcher(tracker, max_delay=0.05)
    # All frames of a stream at once: each of them has to wait for the one before.
    futures = [
        [batcher.submit(stream, frame) for frame, _ in clip[1:7]]
        for stream, clip in zip(streams, clips, strict=True)
    ]
    batcher.close()
    for each, expected in zip(futures, wanted, strict=True):
        assert all(same(f.result(timeout=0), w) for f, w in zip(each, expected, strict=True))


class Slow(Tracker):
    """Keeps the first call waiting, and writes down which streams each call has."""

    def __init__(self, tracker: Tracker) -> None:
        super().__init__(tracker.bundle, tracker.engine)
        self.go, self.calls = Event(), []  # type: ignore[var-annotated]

    def step_many(self, frames):  # type: ignore[no-untyped-def]
        assert self.go.wait(30)
        self.calls.append(list(frames))
        return super().step_many(frames)


def test_those_that_wait_go_together_and_nobody_waits_for_the_late(
    tracker: Tracker, clips: list[Clip]
) -> None:
    slow = Slow(tracker)
    streams = opened(slow, clips)
    batcher = DynamicBatcher(slow, max_delay=0.0)
    first = batcher.submit(streams[0], clips[0][1][0])
    while not batcher._waiting.empty():  # until the first call has begun without the others
        pass
    rest = [batcher.submit(s, c[i][0]) for i, s, c in zip((2, 1), streams, clips, strict=False)]
    slow.go.set()
    assert first.result(timeout=600) is not None
    assert all(f.result(timeout=600) is not None for f in rest)
    batcher.close()
    assert slow.calls == [[streams[0]], [streams[0], streams[1]]], "the third never came"


def test_a_wrong_frame_is_its_own_stream_s(tracker: Tracker, clips: list[Clip]) -> None:
    streams = opened(tracker, clips)
    batcher = DynamicBatcher(tracker, max_delay=0.2)
    wrong = batcher.submit(streams[0], clips[1][1][0])
    right = batcher.submit(streams[1], clips[1][1][0])
    batcher.close()
    assert isinstance(wrong.exception(timeout=0), UserError)
    assert same(right.result(timeout=0), alone(tracker, clips[1], 1)[0])


def test_a_cancelled_frame_is_left_out_and_harms_nobody(
    tracker: Tracker, clips: list[Clip]
) -> None:
    slow = Slow(tracker)
    streams = opened(slow, clips)
    batcher = DynamicBatcher(slow, max_delay=0.0)
    first = batcher.submit(streams[0], clips[0][1][0])
    while not batcher._waiting.empty():  # until the first call has begun
        pass
    given_up = batcher.submit(streams[1], clips[1][1][0])
    assert given_up.cancel()
    after = batcher.submit(streams[0], clips[0][2][0])
    slow.go.set()
    assert after.result(timeout=600) is not None and first.done()
    batcher.close()
    assert slow.calls == [[streams[0]], [streams[0]]]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(streams[0], clips[0][3][0])


def test_a_batch_that_nobody_needs_is_freed_at_once(tracker: Tracker, clips: list[Clip]) -> None:
    streams = opened(tracker, clips)
    gc.disable()  # its megabytes must not wait for the cycle collector
    try:
        tracker.step_many({s: c[1][0] for s, c in zip(streams, clips, strict=True)})
        batch = weakref.ref(streams[0].runner.batch)  # type: ignore[union-attr]
        for stream, clip in zip(streams, clips, strict=True):
            stream.step(clip[2][0])
        assert batch() is None
    finally:
        gc.enable()


def test_without_the_graph_they_take_turns(tmp_path: Path, clips: list[Clip]) -> None:
    graphs = {name: small_graph("paper", name) for name in ("init", "step")}
    write_bundle(
        tmp_path / "x.s2s", contract=small_contract("paper"), graphs={"fp32": graphs}, facts={}
    )
    bundle = Bundle.open(tmp_path / "x.s2s")
    tracker = Tracker(bundle, OneCall(bundle, threads=1))
    streams = opened(tracker, clips)
    found = tracker.step_many({s: c[1][0] for s, c in zip(streams, clips, strict=True)})
    for stream, clip in zip(streams, clips, strict=True):
        np.testing.assert_array_equal(found[stream], alone(tracker, clip, 1)[0])
