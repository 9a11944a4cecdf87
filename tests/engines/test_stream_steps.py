"""Several frames a call: the same labels as frame by frame, however they are dealt out."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from s2svos.sample.render import render
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine
from s2svos_engines.tracker import Tracker

FRAMES = 12
Pictures = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    from small_graphs import small_contract, small_graph

    path = tmp_path_factory.mktemp("bundle") / "small.s2s"
    graphs = {name: small_graph("paper", name) for name in ("init", "step", "step4")}
    write_bundle(path, contract=small_contract("paper"), graphs={"fp32": graphs}, facts={})
    return Bundle.open(path)


class CountingEngine:
    """An engine that notes how many frames each call takes."""

    def __init__(self, engine):
        self._engine = engine
        self.calls = []

    def __getattr__(self, name):
        return getattr(self._engine, name)

    def runner(self, states):
        runner = self._engine.runner(states)
        submit, step = runner.submit, runner.step
        runner.submit = lambda frames: self.calls.append(len(frames)) or submit(frames)
        runner.step = lambda frame: self.calls.append(1) or step(frame)
        return runner


@pytest.fixture(
    scope="module",
    # OpenVINO with two threads has several calls in flight.
    params=[("onnxruntime", 1), ("openvino", 1), ("openvino", 2)],
    ids=lambda engine: "-".join(map(str, engine)),
)
def tracker(request: pytest.FixtureRequest, bundle: Bundle) -> Tracker:
    name, threads = request.param
    return Tracker(bundle, CountingEngine(load_engine(bundle, name, threads=threads)))


@pytest.fixture(scope="module")
def mask() -> NDArray[np.uint8]:
    return next(render(length=1, height=90, width=160))[1]


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return [frame for frame, _ in render(length=FRAMES, height=90, width=160)]


@pytest.fixture(scope="module")
def expected(tracker: Tracker, pictures: Pictures, mask: NDArray[np.uint8]) -> Pictures:
    stream = tracker.open(pictures[0], mask)
    labels = [stream.step(frame) for frame in pictures[1:]]
    for before, after in pairwise(labels):
        assert not same(before, after)  # so that one cannot pass for the other
    return labels


def same(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    return bool(a.shape == b.shape and (a != b).mean() < 1e-3)  # the graphs round differently


@pytest.mark.parametrize(
    ("portions", "calls"),
    [
        ([11], [4, 4, 1, 1, 1]),
        ([3, 8], [1, 1, 1, 4, 4]),
        ([1, 0, 4, 6], [1, 4, 4, 1, 1]),
    ],
)
def test_same_labels_as_frame_by_frame(
    tracker: Tracker,
    pictures: Pictures,
    mask: NDArray[np.uint8],
    expected: Pictures,
    portions: list[int],
    calls: list[int],
) -> None:
    stream = tracker.open(pictures[0], mask)
    tracker.engine.calls.clear()
    rest, got = iter(pictures[1:]), []
    for portion in portions:
        got += stream.steps([next(rest) for _ in range(portion)])
        assert stream.labels is got[-1]
    assert tracker.engine.calls == calls
    assert all(map(same, got, expected)) and len(got) == len(expected)


def test_frames_need_not_be_contiguous_nor_a_list(
    tracker: Tracker, pictures: Pictures, mask: NDArray[np.uint8]
) -> None:
    mirrored = np.stack(pictures)[:, :, ::-1]
    stream = tracker.open(mirrored[0], mask[:, ::-1])
    copied = tracker.open(mirrored[0].copy(), mask[:, ::-1].copy())
    for one, other in zip(
        stream.steps(mirrored[1:6]), copied.steps(list(mirrored[1:6].copy())), strict=True
    ):
        assert (one == other).all()


def test_objects_enter_and_leave_between_calls(
    tracker: Tracker, pictures: Pictures, mask: NDArray[np.uint8]
) -> None:
    one_by_one, together = (tracker.open(pictures[0], mask * (mask == 1)) for _ in range(2))
    for stream, step in (
        (one_by_one, lambda frames: [one_by_one.step(frame) for frame in frames]),
        (together, together.steps),
    ):
        step(pictures[1:5])
        stream.add(pictures[4], mask * (mask == 2))
        step(pictures[5:9])
        stream.remove(1)
        step(pictures[9:12])
    assert same(one_by_one.labels, together.labels)


def test_nothing_followed_is_background(
    tracker: Tracker, pictures: Pictures, mask: NDArray[np.uint8]
) -> None:
    stream = tracker.open(pictures[0], mask)
    stream.remove(*stream.ids.tolist())
    tracker.engine.calls.clear()
    labels = stream.steps(pictures[1:7])
    assert [one.shape for one in labels] == [mask.shape] * 6
    assert not np.any(labels) and tracker.engine.calls == []


def test_a_wrong_frame_is_named_before_any_is_followed(
    tracker: Tracker, pictures: Pictures, mask: NDArray[np.uint8], expected: Pictures
) -> None:
    stream = tracker.open(pictures[0], mask)
    for wrong in (pictures[4][:-1], pictures[4].astype(np.float32)):
        with pytest.raises(UserError, match="size of its first frame"):
            stream.steps([*pictures[1:4], wrong])
    assert (stream.labels == mask).all()
    assert all(map(same, stream.steps(pictures[1:5]), expected))


def test_frames_are_taken_as_they_are_needed(
    tracker: Tracker, pictures: Pictures, mask: NDArray[np.uint8], expected: Pictures
) -> None:
    """Of calls of four frames, as many as may be in flight, and no more."""
    taken = []
    stream = tracker.open(pictures[0], mask)
    labels = stream.follow(taken.append(0) or frame for frame in pictures[1:])
    assert same(next(labels), expected[0])
    assert len(taken) == min(4 * tracker.engine.max_in_flight, len(expected))
    assert all(map(same, labels, expected[1:]))
    one_by_one = tracker.open(pictures[0], mask).follow(pictures[1:], max_in_flight=1)
    assert all(map(same, one_by_one, expected))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_came_before_an_error_is_followed(
    tracker: Tracker,
    pictures: Pictures,
    mask: NDArray[np.uint8],
    expected: Pictures,
    error: type[BaseException],
) -> None:
    def frames() -> Iterator[NDArray[np.uint8]]:
        yield from pictures[1:7]
        raise error("lost")

    stream, labels = tracker.open(pictures[0], mask), []
    with pytest.raises(error, match="lost"):
        labels.extend(stream.follow(frames()))
    assert all(map(same, labels, expected)) and len(labels) == 6
    assert all(map(same, stream.steps(pictures[7:]), expected[6:]))


def test_calls_that_nobody_waits_for(
    tracker: Tracker, pictures: Pictures, mask: NDArray[np.uint8]
) -> None:
    """As after Ctrl-C: a stream can be opened and followed all the same."""
    stream = tracker.open(pictures[0], mask)
    runner = stream.runner
    small = [stream.letterbox.resize(frame) for frame in pictures[1:]]
    for frame in small[: tracker.engine.max_in_flight]:
        runner.submit([frame])
    for frame in small:
        assert runner.step(frame).shape == (len(np.unique(mask)) - 1, *small[0].shape[:2])
