"""Tracker and stream: the weights that are shared, and the state that is not."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import (
    AnyFrame,
    AnyMask,
    Labels,
    Masks,
    States,
    as_labels,
    dtype_and_shape,
    object_ids,
    on_gpu,
)
from s2svos_engines.batch_runner import Slot, StreamsRunner, together
from s2svos_engines.bundle import Bundle
from s2svos_engines.confidence import Confidence, confidence
from s2svos_engines.contract import Counts
from s2svos_engines.engine import Engine, Pending, Runner
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import Letterbox, Region, merge_masks, object_masks, to_network
from s2svos_engines.registry import GPU_ENGINES, load_engine
from s2svos_engines.states import chosen, joined
from s2svos_engines.window import FollowingWindow, WindowMode, mask_boxes, object_boxes, union
from s2svos_engines.window_state import Entry, Look, moved_states


class Tracker:
    """A network on an engine. Immutable; any number of streams may be open on it.

    Args:
        bundle: where the network came from.
        engine: its graphs, compiled.
        window: whether the network sees a window that follows the objects, or the whole frame.
    """

    def __init__(
        self, bundle: Bundle, engine: Engine, *, window: WindowMode = WindowMode.OFF
    ) -> None:
        self.bundle = bundle
        self.engine = engine
        self.window = window

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        engine: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
        window: str = "off",
    ) -> Tracker:
        """Open a bundle on an engine.

        Args:
            path: of the bundle.
            engine: ``openvino``, ``onnxruntime``, or ``auto`` for the fastest that is installed.
            precision: of the graphs: ``fp32``, or ``fp16`` or ``int8`` where the bundle has them;
                or ``auto``, the fastest on this processor that keeps the masks.
            threads: processor threads of a step; None for one a processor that may be used.
            window: ``auto``, the network sees a window that follows the objects, or ``off``.

        Raises:
            UserError: the bundle or the engine cannot be used.
        """
        if window not in [*WindowMode]:
            raise UserError(f"There is no window {window!r}", f"choose {' or '.join(WindowMode)}")
        bundle = Bundle.open(path)
        loaded = load_engine(bundle, engine, precision=precision, threads=threads)
        return cls(bundle, loaded, window=WindowMode(window))

    @property
    def engine_name(self) -> str:
        """Name of the engine that runs the network."""
        return self.engine.name

    def open(self, frame: AnyFrame, mask: AnyMask) -> Stream:
        """Open a stream that follows the objects of a first frame.

        Args:
            frame: uint8 [H, W, 3], RGB, the first frame; any size. It and those that follow may
                be on the GPU, as PyTorch's, CuPy's and PyCUDA's arrays are, where the engine is.
            mask: integer [H, W], ids of the objects in it, 1 to 255, 0 for the background; or bool
                of one object, which gets the id 1.

        Raises:
            UserError: wrong types or shapes, or the mask holds no object.
        """
        dtype, shape = dtype_and_shape(frame)
        if dtype != "uint8" or len(shape) != 3 or shape[2] != 3 or not all(shape):
            raise UserError(f"A frame is uint8 [H, W, 3], not {dtype} {list(shape)}.")
        stream = Stream(self, (shape[0], shape[1]))
        stream.add(frame, mask)
        return stream

    def restore(self, snapshot: Mapping[str, NDArray[Any]]) -> Stream:
        """Open a stream that goes on where another one was when its snapshot was taken.

        Args:
            snapshot: of :meth:`Stream.snapshot`, from a tracker of the same bundle, precision and
                window; on the same engine the masks are the same, bit by bit.

        Raises:
            UserError: it is none, or of another network or window.
        """
        try:
            height, width = (int(side) for side in snapshot["labels"].shape)
            stream = Stream(self, (height, width))
            stream.load(snapshot)
        except (KeyError, ValueError, TypeError, IndexError) as error:
            raise UserError(
                f"The snapshot is not of a stream of this tracker ({error})",
                "open the video anew",
            ) from error
        return stream

    def snap(self, frame: AnyFrame, mask: AnyMask) -> Labels:
        """Return a mask whose edges are the objects', of one that was drawn in a hurry.

        The network follows the objects from the frame to itself: on five sets of pictures the IoU
        of sloppy masks rose from 0.71 to 0.84 to 0.83 to 0.92.

        Args:
            frame: uint8 [H, W, 3], RGB.
            mask: as for :meth:`open`.

        Returns:
            uint8 [H, W], with the same ids; that of an object that was not found is as it was.

        Raises:
            UserError: wrong types or shapes, or the mask holds no object.
        """
        drawn = as_labels(mask)
        labels = self.open(frame, mask).step(frame)
        missed = ~np.isin(drawn, object_ids(labels))
        return np.where((labels == 0) & missed, drawn, labels)

    def step_many(self, frames: Mapping[Stream, AnyFrame]) -> dict[Stream, Labels]:
        """Follow the objects of several streams into their next frames.

        On a processor at the same time, a thread each; on a GPU in one call of the network where
        the bundle has a ``batch`` graph, else in turn. Streams may join and leave from call to
        call; other streams than in the last one have their states copied. Not to be called by two
        threads at once; a :class:`~s2svos_engines.dynamic_batcher.DynamicBatcher` takes the frames
        of many threads.

        Args:
            frames: for each stream of this tracker that has one, its next frame, as for
                :meth:`Stream.step`.

        Returns:
            The labels of each, as :meth:`Stream.step` returns them.

        Raises:
            UserError: a frame has another type or size than its stream; none is stepped then.
        """
        for stream, frame in frames.items():
            stream.check(frame)
        members = [stream for stream in frames if len(stream.ids)]
        if len(members) < 2 or not (self.engine.parallel or self.engine.batches):
            return {stream: stream.step(frame) for stream, frame in frames.items()}
        with ExitStack() as stack:
            for stream in frames:
                stack.enter_context(stream.used())
            batch = self._batch(members)
            resized = [to_network(frames[stream], stream.letterbox) for stream in members]
            masks = dict(zip(members, batch.step(resized), strict=True))
            return {
                stream: stream.finish(frame, masks.get(stream)) for stream, frame in frames.items()
            }

    def _batch(self, members: Sequence[Stream]) -> StreamsRunner:
        """Return the runner that has exactly these streams in this order, or a new one."""
        first = members[0].runner
        if isinstance(first, Slot) and first.batch.slots == [one.runner for one in members]:
            return first.batch
        batch = together(self.engine, [one.states() for one in members])
        for stream, slot in zip(members, batch.slots, strict=True):
            stream.runner = slot
        return batch


class _Seen(NamedTuple):
    """The network's masks of a frame, uint8 [N, h, w], and the letterbox that they lie in."""

    masks: Masks
    letterbox: Letterbox


class Stream:
    """One video and the objects followed in it. Not to be stepped by two threads at once.

    Attributes:
        labels: uint8 [H, W], the ids on the latest frame.
        ids: uint8 [N], the objects that are followed, rising.
        confidence: how sure the network is of each on the frame whose labels it gave last, by id;
            empty before the first.
        letterbox: from the video's size to the network's.
        runner: where the state is: a runner of this stream, its slot in a batch, or None if no
            object is followed.
    """

    labels: Labels
    ids: NDArray[np.uint8]
    confidence: dict[int, Confidence]

    def __init__(self, tracker: Tracker, video_size: tuple[int, int]) -> None:
        self._engine, contract = tracker.engine, tracker.engine.contract
        network_size = contract.height, contract.width
        self.letterbox = Letterbox.of(video_size, network_size)
        self._window = (
            FollowingWindow(video_size, network_size, delay=1)
            if tracker.window == WindowMode.AUTO
            else None
        )
        self._entries: list[Entry] = []
        self._moving = False  # whether the window moves as soon as no call is in flight
        self._used = Lock()
        self.runner: Runner[Any] | Slot | None = None
        self.ids = np.zeros(0, np.uint8)
        self.labels = np.zeros(video_size, np.uint8)
        self.confidence = {}
        self._seen: _Seen | None = None  # what the latest labels were made of

    def __repr__(self) -> str:
        height, width = self.letterbox.video_size
        return f"<Stream of {width}x{height}, objects {self.ids.tolist()}>"

    @property
    def probabilities(self) -> NDArray[np.float32]:
        """How likely each pixel is of each object on the frame whose labels were given last.

        Returns:
            float32 [N, H, W], 0 to 1, in the order of :attr:`ids`, smoothly enlarged from the
            network's size; 0 and 1 alone after objects were entered or corrected by a mask.
        """
        return self.soft_masks().astype(np.float32) / np.float32(255)

    def soft_masks(self) -> Masks:
        """Return :attr:`probabilities` times 255, uint8 [N, H, W]."""
        if self._seen is None:
            return object_masks(self.labels, self.ids)
        masks, letterbox = self._seen
        planes = [letterbox.place(letterbox.restore(mask)) for mask in masks]
        return np.stack(planes) if planes else np.zeros((0, *letterbox.video_size), np.uint8)

    def step(self, frame: AnyFrame) -> Labels:
        """Follow the objects into the next frame.

        Args:
            frame: uint8 [H, W, 3], RGB, of the first frame's size.

        Returns:
            uint8 [H, W], ids of the objects, 0 for the background.

        Raises:
            UserError: the frame has another type or size.
        """
        self.check(frame)
        with self.used():
            runner = self._own_runner()
            masks = runner.step(to_network(frame, self.letterbox)) if runner else None
            return self.finish(frame, masks)

    def steps(self, frames: Sequence[AnyFrame]) -> list[Labels]:
        """Follow the objects into the next frames, as :meth:`follow` does.

        Args:
            frames: any number of uint8 [H, W, 3], RGB, of the first frame's size.

        Returns:
            For each frame what ``step`` returns, but for rounding.

        Raises:
            UserError: a frame has another type or size; then none is followed.
        """
        for frame in frames:
            self.check(frame)
        return list(self.follow(frames))

    def follow(
        self, frames: Iterable[AnyFrame], *, max_in_flight: int | None = None
    ) -> Iterator[Labels]:
        """Follow the objects through frames that need not be answered one by one.

        Faster than to step: a call takes as many frames as the engine can at once, and several
        calls are in flight, so frames are taken before the labels of those before them are given.
        To be iterated to its end, or closed, before anything else is done with the stream; where it
        is closed, the stream goes on after the frames that were taken.

        Args:
            frames: uint8 [H, W, 3], RGB, of the first frame's size, such as those of a video.
            max_in_flight: how many calls are in flight at most; None for what the engine can.

        Yields:
            For each frame what ``step`` returns, but for rounding; also for those that came before
            an error.

        Raises:
            UserError: a frame has another type or size.
            Exception: what ``frames`` raised.
        """
        with self.used():
            yield from self._follow(frames, max_in_flight or self._engine.max_in_flight)

    def _follow(self, frames: Iterable[AnyFrame], max_in_flight: int) -> Iterator[Labels]:
        error: BaseException | None = None

        def until_error() -> Iterator[AnyFrame]:
            nonlocal error
            try:
                for frame in frames:
                    self.check(frame)
                    yield frame
            except BaseException as raised:  # Ctrl-C too
                error = raised

        limit = min(max_in_flight, self._engine.max_in_flight)
        self._moving = False
        if self._window:
            self._window.delay = limit * max(self._engine.frames_per_call)
        calls = self._calls(until_error())
        in_flight: deque[tuple[AnyFrame, Pending]] = deque()
        more = True
        try:
            while more or in_flight:
                # Before another frame is taken; and a window moves once no call is in flight.
                if in_flight and (not more or self._moving or len(in_flight) == limit):
                    frame, call = in_flight.popleft()
                    for labels, sure, seen in self._wait(frame, call, last=not in_flight):
                        self.confidence, self._seen = sure, seen
                        yield labels
                elif more := (portion := next(calls, None)) is not None:
                    in_flight.append((portion[-1], self._submit(portion)))
        except GeneratorExit:  # closed before its end
            while in_flight:
                frame, call = in_flight.popleft()
                self._wait(frame, call, last=not in_flight)
            raise
        if error:
            raise error

    @contextmanager
    def used(self) -> Iterator[None]:
        """Have the stream for oneself.

        Raises:
            UserError: it is in use.
        """
        if not self._used.acquire(blocking=False):
            raise UserError(
                "The stream is in use",
                "iterate follow to its end or close it first, and step a stream in one thread",
            )
        try:
            yield
        finally:
            self._used.release()

    def check(self, frame: AnyFrame) -> None:
        """Check that a frame can be stepped.

        Raises:
            UserError: it has another type or size than the first, or is on a GPU where the engine
                is not.
        """
        if on_gpu(frame) and not self._engine.on_gpu:
            raise UserError(
                f"The frame is on a GPU, but the engine {self._engine.name} is not",
                "copy it to a NumPy array first, or load the tracker on one of "
                f"{', '.join(GPU_ENGINES)}",
            )
        self._check(*dtype_and_shape(frame), (*self.letterbox.video_size, 3))

    def add(self, frame: AnyFrame, mask: AnyMask) -> Labels:
        """Follow further objects, which enter on the latest frame.

        Args:
            frame: uint8 [H, W, 3], RGB, the frame that was stepped last.
            mask: integer [H, W], ids of the new objects, 0 elsewhere; or bool of object 1.

        Returns:
            uint8 [H, W], the latest labels with the new objects over them.

        Raises:
            UserError: wrong types or shapes, no object, or an id that is followed already.
        """
        entry = self._entry(frame, mask)
        with self.used():
            if known := set(entry.ids.tolist()) & set(self.ids.tolist()):
                raise UserError(
                    f"Object {min(known)} is followed already",
                    "give a new object a new id, or correct a known one",
                )
            self._enter(entry)
            self._seen = None
            self.labels = np.where(entry.labels > 0, entry.labels, self.labels)
        return self.labels

    def correct(self, frame: AnyFrame, mask: AnyMask) -> Labels:
        """Say where objects are on the latest frame, which is what is remembered of them then.

        Objects that the mask has and the stream does not enter; those that it does not have go on
        as they were.

        Args:
            frame: uint8 [H, W, 3], RGB, the frame that was stepped last.
            mask: integer [H, W], ids of the objects, 0 elsewhere; or bool of object 1.

        Returns:
            uint8 [H, W], the latest labels with these objects where the mask has them alone.

        Raises:
            UserError: wrong types or shapes, or no object.
        """
        entry = self._entry(frame, mask)
        with self.used():
            self.labels = np.where(np.isin(self.labels, entry.ids), 0, self.labels)
            self._leave(np.isin(self.ids, entry.ids))
            self._enter(entry)
            self._seen = None
            self.labels = np.where(entry.labels > 0, entry.labels, self.labels)
        return self.labels

    def _entry(self, frame: AnyFrame, mask: AnyMask) -> Entry:
        self.check(frame)
        labels = as_labels(mask)
        self._check(str(labels.dtype), labels.shape, self.letterbox.video_size)
        ids = object_ids(labels)
        if not len(ids):
            raise UserError("The mask holds no object", "mark each object with its id, 1 to 255")
        return Entry(frame, labels, ids)

    def _enter(self, entry: Entry) -> None:
        if self._window:
            self._make_room(entry)
            self._entries.append(entry.copy())
        states = entry.init(self._engine, self.letterbox)
        if self.runner:
            states = joined(self._engine.contract, [self.states(), states])
        ids = np.concatenate([self.ids, entry.ids])
        order = np.argsort(ids)
        self._keep(ids[order], chosen(self._engine.contract, states, order))

    def remove(self, *ids: int) -> None:
        """Stop following objects.

        Raises:
            UserError: an id is not followed.
        """
        if unknown := set(ids) - set(self.ids.tolist()):
            raise UserError(f"Object {min(unknown)} is not followed", f"the ids are {self.ids}")
        with self.used():
            left = ~np.isin(self.ids, ids)
            if self._seen:
                self._seen = _Seen(self._seen.masks[left], self._seen.letterbox)
            self._leave(~left)

    def _leave(self, leaving: NDArray[np.bool_]) -> None:
        """Drop the objects that are marked, [N]."""
        gone = self.ids[leaving]
        if len(gone):
            states = chosen(self._engine.contract, self.states(), ~leaving)
            self._keep(self.ids[~leaving], states)
        self._entries = [
            entry._replace(ids=left)
            for entry in self._entries
            if len(left := entry.ids[~np.isin(entry.ids, gone)])
        ]

    def states(self) -> States:
        """Return the states of the N objects, valid until the next step; empty if there is none."""
        return self.runner.states() if self.runner else []

    def merge(self, masks: Masks | None) -> Labels:
        """Merge masks, uint8 [N, h, w], or None without objects, into the latest labels.

        Returns:
            uint8 [H, W], as :meth:`step` does.
        """
        if masks is None:
            masks = np.zeros((0, *self.letterbox.network_size), np.uint8)
        self.labels = merge_masks(masks, self.ids, self.letterbox)
        return self.labels

    def snapshot(self) -> dict[str, NDArray[np.generic]]:
        """Return all that :meth:`Tracker.restore` needs to go on from the latest frame.

        Arrays that ``numpy.savez`` keeps; of constant size, most of it the frames on which objects
        entered, which a window needs. Not while the stream is being followed.
        """
        with self.used():
            names = [spec.name for spec in self._engine.contract.states]
            states = dict(zip(names, self.states(), strict=False))
            found: dict[str, NDArray[np.generic]] = {
                "ids": self.ids,
                "labels": self.labels,
                "region": np.array(self.letterbox.region),
                "confidence": np.array([[one, *c] for one, c in self.confidence.items()]),
                **{f"state {name}": np.array(state) for name, state in states.items()},
            }
            for number, entry in enumerate(self._entries):
                for key, value in entry._asdict().items():
                    found[f"entry {number} {key}"] = np.asarray(value)
            if self._window:
                found |= {f"window {key}": value for key, value in self._window.history().items()}
            return found

    def load(self, snapshot: Mapping[str, NDArray[Any]]) -> None:
        """Take over a snapshot; see :meth:`Tracker.restore`.

        Raises:
            KeyError, ValueError, TypeError, IndexError: it is none, or of another stream's kind.
        """
        ids = np.asarray(snapshot["ids"], np.uint8)
        states: list[NDArray[Any]] = []
        for spec in self._engine.contract.states if len(ids) else ():
            state = np.asarray(snapshot[f"state {spec.name}"])
            entries = 1 if len(state) == 1 else len(ids)
            wanted = spec.input.sizes(Counts(len(ids), entries))
            if state.shape != wanted or state.dtype != spec.dtype:
                raise ValueError(f"its state {spec.name} is {state.dtype} {list(state.shape)}")
            states.append(state)
        self.labels = np.array(snapshot["labels"], np.uint8)
        self.confidence = {
            int(one): Confidence(*rest) for one, *rest in snapshot["confidence"].tolist()
        }
        region = Region(*(int(side) for side in snapshot["region"]))
        self.letterbox = Letterbox.of(
            self.letterbox.video_size, self.letterbox.network_size, region
        )
        if self._window:
            number = 0
            while f"entry {number} ids" in snapshot:
                parts = {key: np.array(snapshot[f"entry {number} {key}"]) for key in Entry._fields}
                self._entries.append(Entry(**parts))
                number += 1
            self._window.resume({key: snapshot[f"window {key}"] for key in self._window.history()})
        elif not self.letterbox.whole:
            raise ValueError("it has a window that follows the objects")
        self._keep(ids, states)

    def _measure(self, masks: Masks, before: dict[int, Confidence]) -> dict[int, Confidence]:
        return confidence(masks, self.ids.tolist(), before) if len(masks) else {}

    def finish(self, frame: AnyFrame, masks: Masks | None) -> Labels:
        """Do what follows a step: merge its masks, and move the window where it is time.

        Args:
            frame: of the step.
            masks: uint8 [N, h, w], or None without objects.

        Returns:
            uint8 [H, W], as :meth:`step` does.
        """
        labels = self.merge(masks)
        self._seen = None if masks is None else _Seen(masks.copy(), self.letterbox)
        self.confidence = {} if masks is None else self._measure(masks, self.confidence)
        if masks is not None and (target := self._moves_to(masks)):
            self._move(frame, masks, target)
        return labels

    def _moves_to(self, masks: Masks) -> Letterbox | None:
        """Return where the window has to move after a frame with these masks; None to stay."""
        if not self._window or not len(masks):
            return None
        return self._window.update(object_boxes(masks, self.letterbox), self.letterbox)

    def _move(self, frame: AnyFrame, masks: Masks, target: Letterbox) -> None:
        """Move the window: the state goes on as if the network had seen the new one."""
        assert self._window
        order = np.argsort(np.concatenate([entry.ids for entry in self._entries]))
        first_looks = (
            entry.init(self._engine, entry.letterbox(self._window, target))
            for entry in self._entries
        )
        contract = self._engine.contract
        first_states = chosen(contract, joined(contract, [*first_looks]), order)
        look = Look(frame, masks, self.letterbox)
        states = moved_states(self._engine, look, target, self.states(), first_states)
        self.letterbox = target
        runner = self._own_runner()
        assert runner
        runner.load(states)

    def _make_room(self, entry: Entry) -> None:
        """Move the window so that objects that enter lie well within."""
        assert self._window
        known = object_masks(self.labels, self.ids)
        entering = object_masks(entry.labels, entry.ids)
        boxes = [box for masks in (entering, known) for box in mask_boxes(masks) if box]
        if not len(self.ids):
            self.letterbox = self._window.around(union(boxes))
        elif target := self._window.update(boxes, self.letterbox):
            masks = np.stack([self.letterbox.resize(mask) for mask in known])
            self._move(entry.frame, masks, target)

    def _own_runner(self) -> Runner[Any] | None:
        """Return the stream's own runner, into which it moves if it is in a batch."""
        if isinstance(self.runner, Slot):
            self.runner = self._engine.runner(self.runner.states())
        return self.runner

    def _calls(self, frames: Iterator[AnyFrame]) -> Iterator[list[AnyFrame]]:
        """Yield the frames of each call, as many as it may take."""
        counts = self._engine.frames_per_call
        while rest := list(islice(frames, max(counts))):
            while rest:
                count = max(count for count in counts if count <= len(rest))
                yield rest[:count]
                del rest[:count]

    def _submit(self, frames: Sequence[AnyFrame]) -> Pending:
        """Submit a call for so many frames, whose masks are uint8 [T, N, h, w]."""
        runner = self._own_runner()
        if runner is None:
            return Pending(lambda: np.zeros((len(frames), 0, 0, 0), np.uint8))
        return runner.submit([to_network(frame, self.letterbox) for frame in frames])

    def _wait(
        self, frame: AnyFrame, call: Pending, *, last: bool
    ) -> list[tuple[Labels, dict[int, Confidence], _Seen]]:
        """Wait for a call; its masks are merged at once, since the next call overwrites them.

        Args:
            frame: the call's last.
            call: the one that was submitted first.
            last: whether no other is in flight, so that the window may move.
        """
        masks = call.wait()
        found, before = [], self.confidence
        for one in masks:
            before = self._measure(one, before)
            found.append((self.merge(one), before, _Seen(one.copy(), self.letterbox)))
        for one in masks:
            target = self._moves_to(one)
        self._moving = target is not None
        if target and last:
            self._move(frame, masks[-1], target)
            self._moving = False
        return found

    def _keep(self, ids: NDArray[np.uint8], states: States) -> None:
        self.ids = ids
        self.runner = self._engine.runner(states) if len(ids) else None

    @staticmethod
    def _check(dtype: str, shape: tuple[int, ...], wanted: tuple[int, ...]) -> None:
        if dtype != "uint8" or shape != wanted:
            raise UserError(
                f"Expected uint8 {list(wanted)}, got {dtype} {list(shape)}",
                "every frame and mask of a stream has the size of its first frame",
            )
