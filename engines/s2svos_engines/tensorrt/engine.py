"""TensorRT and TensorRT-RTX on an NVIDIA GPU.

Written without a GPU: types are checked against TensorRT 11's own bindings, what is called when and
with which addresses against a stand-in that runs the graphs with ONNX Runtime. No GPU has run it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import TYPE_CHECKING

from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import OBJECTS
from s2svos_engines.cuda.device import CudaStream, out_of_memory
from s2svos_engines.cuda.engine import Arrays, CudaEngine
from s2svos_engines.errors import UserError
from s2svos_engines.tensorrt.builder import running_target
from s2svos_engines.tensorrt.library import LIBRARIES, library_log, load_library
from s2svos_engines.tensorrt.plan_cache import plan_here

if TYPE_CHECKING:
    import tensorrt


class TensorRtEngine(CudaEngine):
    """One plan a graph, for any object count up to the plan's most."""

    name = "tensorrt"

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        if TYPE_CHECKING:
            import tensorrt as trt
        else:
            trt = load_library(self.name)
        super().__init__(bundle, precision=precision)
        self._bundle = bundle
        self._here = running_target(self.name, self.gpu)
        self._runtime = trt.Runtime(library_log(self.name))
        self._plans: dict[str, tuple[int, tensorrt.ICudaEngine]] = {}
        self._lock = Lock()
        for graph in ("init", "step"):
            self.plan(graph, 1)

    def plan(self, graph: str, objects: int) -> tensorrt.ICudaEngine:
        """Return a graph's plan, ready to run; loaded or built when it is first needed.

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
                        (
                            f"{LIBRARIES[self.name].title} cannot load the plan of {graph} in "
                            f"{self._bundle.path}, though it was built for {plan.target}"
                        ),
                        f"rebuild it with s2svos export {self._bundle.path} --plan {self.name}",
                    )
                self._plans[graph] = plan.max_objects, loaded
            return loaded

    def bind(self, graph: str, stream: CudaStream, *sets: Arrays) -> list[Callable[[], None]]:
        """Create one context, with the memory for the graph's activations, for all sets."""
        counts = (
            array.shape[spec.shape.index(OBJECTS)]
            for spec, array in sets[0].items()
            if OBJECTS in spec.shape
        )
        objects = next(counts)
        context = self.plan(graph, objects).create_execution_context()
        if context is None:
            raise out_of_memory(f"the plan of {graph} for {objects} objects")
        for spec in self.contract.interface(graph).inputs:
            shape = sets[0][spec].shape
            _must(context.set_input_shape(spec.name, shape), f"{spec.name} of {shape}")
        return [partial(_start, context, arrays, stream) for arrays in sets]


class TensorRtRtxEngine(TensorRtEngine):
    """The same on TensorRT-RTX."""

    name = "tensorrt-rtx"


def _start(context: tensorrt.IExecutionContext, arrays: Arrays, stream: CudaStream) -> None:
    """Start a graph on these arrays."""
    for spec, array in arrays.items():
        _must(context.set_tensor_address(spec.name, array.address), f"the address of {spec.name}")
    _must(context.execute_async_v3(stream.handle), "to run")


def _must(done: bool, what: str) -> None:
    # The reason goes to the log: TensorRT returns no more than this.
    if not done:
        raise RuntimeError(f"TensorRT refused {what}; its reason is in the log s2svos.tensorrt")
