"""TensorRT and TensorRT-RTX on an NVIDIA GPU, with the state resident on it.

Written without a GPU: types are checked against TensorRT 11's own bindings, what is called when and
with which addresses against a stand-in that runs the graphs with ONNX Runtime. No GPU has run it.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.cell import ResidentCell
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.device import DeviceArray, Gpu, GpuStream
from s2svos_engines.engine import States
from s2svos_engines.errors import UserError
from s2svos_engines.plan_store import plan_here
from s2svos_engines.tensorrt_builder import running_target
from s2svos_engines.tensorrt_library import LIBRARIES, library_log, load_library

if TYPE_CHECKING:
    import tensorrt


class TensorRtEngine:
    """One plan a graph, for any object count up to the plan's most."""

    name = "tensorrt"

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        if TYPE_CHECKING:
            import tensorrt as trt
        else:
            trt = load_library(self.name)
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        self.batches = BATCH in bundle.graph_names(precision)
        self.gpu = Gpu()
        self._bundle = bundle
        self._here = running_target(self.name, self.gpu)
        self._runtime = trt.Runtime(library_log(self.name))
        self._plans: dict[str, tuple[int, tensorrt.ICudaEngine]] = {}
        self._lock = Lock()
        for graph in ("init", "step"):
            self.plan(graph, 1)

    def plan(self, graph: str, objects: int) -> tensorrt.ICudaEngine:
        """A graph's plan, ready to run; loaded or built when it is first needed.

        Raises:
            UserError: the bundle's plan does not fit here, or none can be built.
        """
        with self._lock:
            most, loaded = self._plans.get(graph, (0, None))
            if loaded is None or most < objects:
                plan, data = plan_here(
                    self._bundle, graph, self.precision, self._here, objects=objects
                )
                loaded = self._runtime.deserialize_cuda_engine(data)
                if loaded is None:
                    raise UserError(
                        f"{LIBRARIES[self.name].title} cannot load the plan of {graph} in "
                        f"{self._bundle.path}, though it was built for {plan.target}; rebuild it "
                        f"with s2svos export {self._bundle.path} --plan {self.name}."
                    )
                self._plans[graph] = plan.max_objects, loaded
            return loaded

    def init(self, frame: NDArray[np.uint8], first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        self.gpu.use()
        stream, interface = self.gpu.stream(), self.contract.interface("init")
        inputs, outputs = (
            [stream.array(spec.sizes(objects=len(first_masks)), spec.dtype) for spec in specs]
            for specs in (interface.inputs, interface.outputs)
        )
        for array, value in zip(inputs, (frame, first_masks), strict=True):
            array.upload(value)
        context = self.context("init", len(first_masks))
        specs = (*interface.inputs, *interface.outputs)
        _start(context, dict(zip(specs, (*inputs, *outputs), strict=True)), stream)
        states = [array.download() for array in outputs]
        stream.wait()
        return states

    def context(self, graph: str, objects: int, streams: int = 1) -> tensorrt.IExecutionContext:
        """What runs a graph for some objects and streams; has the memory for what it computes.

        Raises:
            UserError: as :meth:`plan`.
        """
        context = self.plan(graph, objects).create_execution_context()
        if context is None:
            raise UserError(
                f"The GPU has too little memory for {graph} with {objects} objects; end other "
                f"programs on it, or rebuild the plan for fewer objects with s2svos export "
                f"{self._bundle.path} --plan {self.name} --max-objects {objects}."
            )
        for spec in self.contract.interface(graph).inputs:
            shape = spec.sizes(objects=objects, streams=streams)
            _must(context.set_input_shape(spec.name, shape), f"{spec.name} of {shape}")
        return context

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> TensorRtCell:
        """A cell that starts from a copy of ``states``."""
        return TensorRtCell(self, states, owners)


class TensorRtRtxEngine(TensorRtEngine):
    """The same on TensorRT-RTX."""

    name = "tensorrt-rtx"


class TensorRtCell(ResidentCell):
    """Two sets of state arrays on the GPU: what a step reads from one it writes to the other."""

    def __init__(
        self, engine: TensorRtEngine, states: States, owners: NDArray[np.int64] | None
    ) -> None:
        super().__init__(engine.contract, states, owners)
        engine.gpu.use()
        self._engine = engine
        self._stream = engine.gpu.stream()
        self._sets = [[self._array(spec) for spec in self._states] for _ in range(2)]
        self._fixed: list[DeviceArray] = []
        if owners is not None:
            self._fixed = [self._stream.array(owners.shape, "int64")]
            self._fixed[0].upload(owners)
        # Its memory is taken now, not on the first frame.
        self._calls = {self._graph: self._bound(self._graph)}
        self._now = 0
        self.load(states)

    def states(self) -> States:
        """The current state; valid until the next step."""
        self._engine.gpu.use()
        states = [array.download() for array in self._sets[self._now]]
        self._stream.wait()
        return states

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``."""
        self._engine.gpu.use()
        for array, value in zip(self._sets[self._now], states, strict=True):
            array.upload(value)
        self._stream.wait()

    def _run(self, graph: str, pictures: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self._engine.gpu.use()
        if graph not in self._calls:
            self._calls[graph] = self._bound(graph)
        call = self._calls[graph]
        call.pictures.upload(pictures)
        _start(call.context, call.arrays[self._now], self._stream)
        masks: NDArray[np.uint8] = call.masks.download()
        self._stream.wait()
        self._now = 1 - self._now
        return masks

    def _bound(self, graph: str) -> _Call:
        interface = self._engine.contract.interface(graph)
        pictures, masks = self._array(interface.inputs[0]), self._array(interface.outputs[0])
        specs = (*interface.inputs, *interface.outputs)
        arrays = [
            dict(zip(specs, (pictures, *self._fixed, *before, masks, *after), strict=True))
            for before, after in (self._sets, self._sets[::-1])
        ]
        context = self._engine.context(graph, self._objects, self._streams)
        return _Call(context, pictures, masks, arrays)

    def _array(self, spec: TensorSpec) -> DeviceArray:
        shape = self._sizes(spec)
        return self._stream.array(shape, spec.dtype)


class _Call(NamedTuple):
    context: tensorrt.IExecutionContext
    pictures: DeviceArray
    masks: DeviceArray
    arrays: list[dict[TensorSpec, DeviceArray]]  # from the first set of states to the second, back


def _start(
    context: tensorrt.IExecutionContext,
    arrays: Mapping[TensorSpec, DeviceArray],
    stream: GpuStream,
) -> None:
    """Starts a graph on these arrays."""
    for spec, array in arrays.items():
        _must(context.set_tensor_address(spec.name, array.address), f"the address of {spec.name}")
    _must(context.execute_async_v3(stream.handle), "to run")


def _must(done: bool, what: str) -> None:
    # The reason goes to the log: TensorRT returns no more than this.
    if not done:
        raise RuntimeError(f"TensorRT refused {what}; its reason is in the log s2svos.tensorrt")
