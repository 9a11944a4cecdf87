"""Stands in for TensorRT: a plan is the ONNX model itself, run by ONNX Runtime.

As strict as the real one: every shape and address must be set, addresses must be aligned and no
output may lie on an input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, cached_property

import numpy as np
import onnxruntime as ort
from gpu_stand_in import ALIGNMENT, Gpu, at, stream_at

from s2svos_engines.tensorrt.plans import Target

TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32, "tensor(int64)": np.int64}


@cache
def _session(model: bytes) -> ort.InferenceSession:
    return ort.InferenceSession(model, providers=["CPUExecutionProvider"])


class Plan:
    """An ICudaEngine."""

    def __init__(self, model: bytes) -> None:
        self.session = _session(model)

    def create_execution_context(self) -> Context:
        return Context(self.session)


class Context:
    """An IExecutionContext."""

    def __init__(self, session: ort.InferenceSession) -> None:
        self._session = session
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return name in {one.name for one in self._session.get_inputs()}

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        known = (*self._session.get_inputs(), *self._session.get_outputs())
        return memory % ALIGNMENT == 0 and name in {one.name for one in known}

    def execute_async_v3(self, stream_handle: int) -> bool:
        shapes, addresses = dict(self._shapes), dict(self._addresses)
        inputs = {one.name: TYPES[one.type] for one in self._session.get_inputs()}
        outputs = [one.name for one in self._session.get_outputs()]
        if set(shapes) != set(inputs) or set(addresses) != {*inputs, *outputs}:
            return False
        if len(set(addresses.values())) < len(addresses):
            return False

        def run() -> None:
            feed = {
                name: at(addresses[name], math.prod(shapes[name]) * np.dtype(kind).itemsize)
                .view(kind)
                .reshape(shapes[name])
                for name, kind in inputs.items()
            }
            for name, value in zip(outputs, self._session.run(outputs, feed), strict=True):
                at(addresses[name], value.nbytes)[...] = value.reshape(-1).view(np.uint8)

        stream_at(stream_handle).give(run)
        return True


class Library:
    """The module ``tensorrt``."""

    __version__ = "11.0.0"

    class Runtime:
        def __init__(self, log: object) -> None:
            pass

        @cached_property
        def deserialize_cuda_engine(self) -> Callable[[bytes], Plan]:
            return Plan


TARGET = Target("tensorrt", Library.__version__, ("0.0",), Gpu.name, Gpu.driver)
