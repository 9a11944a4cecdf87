"""The step contract: what goes into and comes out of the graphs of a bundle.

Networks, exporter, engines, manifest and tests all read :class:`StepContract`; no tensor name,
shape or dtype is written anywhere else.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

OBJECTS = "objects"
"""Symbolic name of the dynamic dimension of objects."""

ENTRIES = "entries"
"""Symbolic name of the dynamic dimension of states that objects have in common as they enter: 1
while all objects of a stream entered on the same frame, else as many as there are objects."""

STREAMS = "streams"
"""Symbolic name of the dynamic dimension of streams in a call, which ``batch`` alone has."""

BATCH = "batch"
"""Name of the graph of many streams."""


class Counts(NamedTuple):
    """What the symbols of dimensions stand for, of which they are the names."""

    objects: int
    entries: int = 1
    streams: int = 1


@dataclass(frozen=True)
class TensorSpec:
    """One input or output of a graph. A dimension is a size or a symbol."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def sizes(self, counts: Counts) -> tuple[int, ...]:
        """Return the shape for numbers of objects, entries and streams."""
        return tuple(getattr(counts, d) if isinstance(d, str) else d for d in self.shape)


@dataclass(frozen=True)
class Interface:
    """The inputs and outputs of a graph, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


@dataclass(frozen=True)
class StateSpec:
    """One state tensor of the cell.

    Args:
        name: the tensor's name in the network, for instance ``cell``.
        shape: its dimensions for one object; the objects axis comes before them.
        dtype: NumPy name of its element type.
        shared: whether all objects of a stream have it in common, as what is remembered of a
            frame; it then has no objects axis.
        entered: whether objects that enter on the same frame have it in common, as what is
            remembered of that frame; :data:`ENTRIES` is then its first axis, which broadcasts over
            objects, and a graph gives it back as it was.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    shared: bool = False
    entered: bool = False

    # A prefix before the name, not a suffix behind it: inputs and outputs then sort alike and no
    # name is a prefix of another, without which Triton swaps implicit states (server #8586).
    @property
    def input(self) -> TensorSpec:
        """The state as it enters ``step``."""
        return TensorSpec(f"in_{self.name}", self.dtype, self._dimensions)

    @property
    def output(self) -> TensorSpec:
        """The state as it leaves ``init`` and ``step``."""
        return TensorSpec(f"out_{self.name}", self.dtype, self._dimensions)

    @property
    def _dimensions(self) -> tuple[int | str, ...]:
        if self.shared:
            return self.shape
        return (ENTRIES if self.entered else OBJECTS, *self.shape)


@dataclass(frozen=True)
class StepContract:
    """The interface of the ``init``, ``step``, ``stepT`` and ``batch`` graphs.

    =========  =======================================  ============================
    graph      in                                       out
    =========  =======================================  ============================
    ``init``   frame, first masks                       every state
    ``step``   frame, every state                       object masks, every state
    ``step4``  4 frames, every state                    4 frames' masks, every state
    ``batch``  a frame a stream, every object's stream, object masks, every state
               every state
    =========  =======================================  ============================

    The frame is uint8 RGB ``[height, width, 3]``; masks are uint8 ``[objects, height, width]``,
    255 for the object and 0 for the rest going in, the probability times 255 coming out. A graph
    of several frames has them on a leading axis, ``[T, height, width, 3]`` and
    ``[T, objects, height, width]``. In ``batch`` the objects of all streams are one after the
    other; frames and shared states have a leading axis of streams, all others one of objects. All
    this is the same in every precision: a graph of half precision casts its states on the way in
    and out (the cell of the paper is not bounded).

    Args:
        height: rows of the frame and the masks, in pixels.
        width: columns of the frame and the masks, in pixels.
        states: the state tensors, in the order in which the graphs take and give them; the first
            is neither shared nor entered, and so tells how many objects there are.
    """

    height: int
    width: int
    states: tuple[StateSpec, ...]

    def __post_init__(self) -> None:
        if self.states[0].shared or self.states[0].entered:
            raise ValueError(f"the first state, {self.states[0].name}, is not each object's own")
        names = [spec.name for spec in (*self.step_inputs, *self.step_outputs, self.first_masks)]
        for name in names:
            clash = [other for other in names if other != name and other.startswith(name)]
            if clash or names.count(name) > 1:
                raise ValueError(f"tensor name {name!r} repeats or is a prefix of {clash}")

    @property
    def frame(self) -> TensorSpec:
        """The video frame, RGB."""
        return TensorSpec("frame", "uint8", (self.height, self.width, 3))

    @property
    def first_masks(self) -> TensorSpec:
        """The objects' masks on the frame where they enter."""
        return TensorSpec("first_masks", "uint8", (OBJECTS, self.height, self.width))

    @property
    def object_masks(self) -> TensorSpec:
        """The objects' probabilities on the current frame, times 255."""
        return TensorSpec("object_masks", "uint8", (OBJECTS, self.height, self.width))

    def interface(self, graph: str) -> Interface:
        """Return the inputs and outputs of ``init``, ``step``, ``stepT`` (``step4``) or ``batch``.

        Raises:
            ValueError: ``graph`` is none of these.
        """
        if graph == "init":
            return Interface(self.init_inputs, self.init_outputs)
        if graph == BATCH:
            return self._batch
        frames = frames_per_call(graph)
        if frames == 1:
            return Interface(self.step_inputs, self.step_outputs)
        clip = TensorSpec("frames", self.frame.dtype, (frames, *self.frame.shape))
        masks = self.object_masks
        masks = TensorSpec(masks.name, masks.dtype, (frames, *masks.shape))
        return Interface((clip, *self.step_inputs[1:]), (masks, *self.init_outputs))

    @property
    def _batch(self) -> Interface:
        frames = TensorSpec("frames", self.frame.dtype, (STREAMS, *self.frame.shape))
        owners = TensorSpec("owners", "int64", (OBJECTS,))  # the stream of each object

        def of_streams(spec: TensorSpec, state: StateSpec) -> TensorSpec:
            leading = STREAMS if state.shared else OBJECTS
            return TensorSpec(spec.name, spec.dtype, (leading, *state.shape))

        inputs = (of_streams(state.input, state) for state in self.states)
        outputs = (of_streams(state.output, state) for state in self.states)
        return Interface((frames, owners, *inputs), (self.object_masks, *outputs))

    @property
    def init_inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs of the ``init`` graph."""
        return (self.frame, self.first_masks)

    @property
    def init_outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs of the ``init`` graph."""
        return tuple(state.output for state in self.states)

    @property
    def step_inputs(self) -> tuple[TensorSpec, ...]:
        """Inputs of the ``step`` graph."""
        return (self.frame, *(state.input for state in self.states))

    @property
    def step_outputs(self) -> tuple[TensorSpec, ...]:
        """Outputs of the ``step`` graph."""
        return (self.object_masks, *self.init_outputs)

    def to_json(self) -> dict[str, Any]:
        """Return the contract as JSON types, for the manifest."""
        return asdict(self)


def step_graph(frames: int) -> str:
    """Return the name of the step graph that takes ``frames`` at a time."""
    return "step" if frames == 1 else f"step{frames}"


def frames_per_call(graph: str) -> int:
    """Return how many frames a step graph takes at a time.

    Raises:
        ValueError: ``graph`` is no step graph's name.
    """
    return int(graph.removeprefix("step") or 1)
