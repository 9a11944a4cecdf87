"""Engines, which compile a bundle's graphs, and runners, which step them on a resident state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Sequence
from threading import RLock
from typing import Any, ClassVar, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Masks, States
from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import BATCH, TensorSpec, step_graph
from s2svos_engines.errors import UserError, graph_errors
from s2svos_engines.letterbox import NetworkFrame
from s2svos_engines.profile import Layer
from s2svos_engines.states import counts

Compiled = TypeVar("Compiled")
Buffer = TypeVar("Buffer")


class Engine(ABC):
    """A bundle's graphs, compiled when they are first needed.

    Shared by all streams; holds nothing of any of them.

    Args:
        bundle: with the graphs.
        precision: of the graphs.
        threads: processor threads of a step, for those who have a say in that.

    Attributes:
        contract: names, shapes and dtypes of the graphs' tensors.
        precision: of the graphs.
        threads: processor threads of a step.
        frames_per_call: how many frames a call of a runner may take, rising; 1 is first.
        batches: whether a runner may hold many streams: whether there is a ``batch`` graph.
        max_in_flight: how many calls of a runner may be in flight.
    """

    name: ClassVar[str]
    on_gpu: ClassVar[bool] = False
    """Whether it computes on a GPU, and takes frames that are there."""

    def __init__(self, bundle: Bundle, *, precision: str, threads: int = 1) -> None:
        self.contract = bundle.contract
        self.precision = precision
        self.threads = threads
        self.frames_per_call = bundle.frames_per_call(precision)
        self.batches = BATCH in bundle.graph_names(precision)
        self.max_in_flight = 1

    @property
    def title(self) -> str:
        """The name, with the arithmetic where that is not the usual."""
        return self.name

    @classmethod
    def fast_precisions(cls) -> tuple[str, ...]:
        """Return the precisions that are faster than fp32 here, the fastest first."""
        return ()

    @classmethod
    def variants(cls, bundle: Bundle, *, precision: str, threads: int) -> list[Engine]:
        """Return the engine once for each arithmetic that it may choose here, the fastest last."""
        return [cls(bundle, precision=precision, threads=threads)]

    @property
    def parallel(self) -> Engine | None:
        """The same with one thread a step, whose runners may step at the same time.

        None where streams had better go in one call.
        """
        return None

    def expect(self, objects: int | None) -> None:  # noqa: B027
        """Prepare for a stream of so many objects that is to be followed, in the background.

        It is no error if this is not what comes.

        Args:
            objects: None where their number is not known yet.
        """

    @abstractmethod
    def init(self, frame: NetworkFrame, first_masks: Masks) -> States:
        """Return the states of N objects that enter on ``frame``.

        Args:
            frame: uint8 [H, W, 3] RGB at the contract's size.
            first_masks: uint8 [N, H, W], 0 to 255.
        """

    def profile_step(self, objects: int, *, repeats: int) -> list[Layer]:
        """Return the layers of a step with so many objects, slowest first.

        Raises:
            UserError: the engine has no counters.
        """
        raise UserError(
            f"The engine {self.name} does not tell the time of its layers",
            "choose openvino or onnxruntime",
        )

    @abstractmethod
    def runner(self, states: States, owners: NDArray[np.int64] | None = None) -> Runner[Any]:
        """Return a runner that starts from a copy of ``states``.

        Args:
            states: of N objects.
            owners: where the engine ``batches``, for a runner of many streams: int64 [N], the
                stream of each object. Shared states then have a leading axis of streams, and all
                others one of objects.
        """


class CompileCache(Generic[Compiled]):
    """What an engine has compiled, by graph and sizes; each is compiled once, by one thread."""

    def __init__(self) -> None:
        self._compiled: dict[Hashable, Compiled] = {}
        self._lock = RLock()

    def get(self, key: Hashable, compile_: Callable[[], Compiled]) -> Compiled:
        """Return what has this key, compiled now if it is the first time.

        Raises:
            UserError: the engine's library refuses it.
        """
        with self._lock:
            if key not in self._compiled:
                with graph_errors("A graph of the bundle cannot be run by this engine"):
                    self._compiled[key] = compile_()
            return self._compiled[key]


class Pending(NamedTuple):
    """A call in flight.

    Args:
        wait: returns the call's masks, as :meth:`Runner.steps` does, once they are there.
    """

    wait: Callable[[], Masks]


class Runner(ABC, Generic[Buffer]):
    """The step graph with the state of N objects resident in it.

    There are two sets of state buffers: a call reads one and writes the other, and the next call
    reads what this one wrote. What a buffer is, the engine says: :meth:`_allocate`,
    :meth:`_read` and :meth:`_write` are all that touches one here.

    Args:
        engine: that runs the graphs.
        states: of N objects, copied.
        owners: int64 [N], the stream of each object, for a runner of many streams.
    """

    def __init__(
        self, engine: Engine, states: States, owners: NDArray[np.int64] | None = None
    ) -> None:
        contract = engine.contract
        self._contract, self._owners = contract, owners
        self._graph = "step" if owners is None else BATCH
        streams = 1 if owners is None else int(owners.max()) + 1
        self._counts = counts(contract, states, streams=streams)
        self._specs = contract.interface(self._graph).inputs[-len(states) :]
        self._buffers = [[self._allocate(spec) for spec in self._specs] for _ in range(2)]
        self._current = 0
        self.load(states)

    def step(self, frame: NetworkFrame) -> Masks:
        """Advance the state by one frame, uint8 [H, W, 3] RGB at the contract's size.

        Returns:
            Probabilities times 255, uint8 [N, H, W], valid until the next step.
        """
        return self._submit("step", [frame])()

    def steps(self, frames: Sequence[NetworkFrame]) -> Masks:
        """Advance the state by several frames in one call.

        Args:
            frames: as many as one of the engine's ``frames_per_call``; for a runner of many
                streams one a stream.

        Returns:
            Probabilities times 255, uint8 [T, N, H, W], or [N, H, W] for many streams; valid until
            the next step.
        """
        return self.submit(frames).wait()

    def submit(self, frames: Sequence[NetworkFrame]) -> Pending:
        """Start what :meth:`steps` does.

        As many calls as the engine's ``max_in_flight`` may be submitted before the first is waited
        for, and they are waited for in their order. Masks are valid until the next call is
        submitted or waited for, states once no call is in flight.
        """
        graph = BATCH if self._graph == BATCH else step_graph(len(frames))
        wait = self._submit(graph, frames)
        return Pending((lambda: wait()[None]) if graph == "step" else wait)

    def states(self) -> States:
        """Return the current states; valid until the next step."""
        return [self._read(buffer) for buffer in self._buffers[self._current]]

    def load(self, states: States) -> None:
        """Go on from a copy of ``states``, of as many objects as the runner has."""
        triples = zip(self._buffers[self._current], self._specs, states, strict=True)
        for buffer, spec, value in triples:
            # Objects that all came from one entry may have had others beside them.
            self._write(buffer, np.broadcast_to(value, self._sizes(spec)))

    def _swap(self) -> None:
        """Make the buffers that were written those that are read."""
        self._current = 1 - self._current

    @abstractmethod
    def _submit(self, graph: str, frames: Sequence[NetworkFrame]) -> Callable[[], Masks]:
        """Start to advance the state by one call of a graph.

        Returns:
            What waits for the graph's masks and returns them.
        """

    @abstractmethod
    def _allocate(self, spec: TensorSpec) -> Buffer:
        """Return a buffer for a state. Called before a subclass's own attributes are set."""

    @abstractmethod
    def _read(self, buffer: Buffer) -> NDArray[np.generic]:
        """Return a buffer's state, valid until the next step."""

    @abstractmethod
    def _write(self, buffer: Buffer, value: NDArray[np.generic]) -> None:
        """Copy a state into a buffer."""

    def _sizes(self, spec: TensorSpec) -> tuple[int, ...]:
        return spec.sizes(self._counts)


class CpuRunner(Runner[Buffer]):
    """A runner on the processor, whose calls are done when they return."""

    def _submit(self, graph: str, frames: Sequence[NetworkFrame]) -> Callable[[], Masks]:
        masks = self._run(graph, frames)
        self._swap()
        return lambda: masks

    @abstractmethod
    def _run(self, graph: str, frames: Sequence[NetworkFrame]) -> Masks:
        """Run a graph from the current buffers to the others."""


def copy_frames(target: NDArray[np.uint8], frames: Sequence[NetworkFrame]) -> None:
    """Copy frames of the host's memory into a graph's input, uint8 [H, W, 3] or [T, H, W, 3]."""
    places = target.reshape(-1, *target.shape[-3:])
    for place, frame in zip(places, frames, strict=True):
        place[...] = frame
