"""Stands in for TensorRT and a GPU, so that what the engine does with them can be tested.

The plan is the ONNX model itself, run by ONNX Runtime; device memory is host memory at an aligned
address. It is as strict as the real ones are: every shape and address must be set, addresses must
be aligned and no output may lie on an input; a copy happens only when the stream is waited for.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from functools import cache, cached_property
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from s2svos_engines.plans import Target

ALIGNMENT = 256
TYPES = {"tensor(uint8)": np.uint8, "tensor(float)": np.float32}


class Buffer:
    """Memory at an address that is a multiple of 256."""

    def __init__(self, size: int) -> None:
        self._memory = np.full(size + ALIGNMENT, 0xAB, np.uint8)
        self.handle = -(-self._memory.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.size = size

    @property
    def bytes(self) -> NDArray[np.uint8]:
        start = self.handle - self._memory.ctypes.data
        return self._memory[start : start + self.size]

    def copy_from(self, other: Buffer, *, stream: Stream) -> None:
        assert other.size == self.size
        stream.work.append(lambda: np.copyto(self.bytes, other.bytes))

    def copy_to(self, other: Buffer, *, stream: Stream) -> None:
        other.copy_from(self, stream=stream)


class Stream:
    """Does nothing until it is waited for, then everything in order."""

    streams: ClassVar[dict[int, Stream]] = {}

    def __init__(self) -> None:
        self.work: list[Callable[[], object]] = []
        self.handle = id(self)
        self.streams[self.handle] = self

    def sync(self) -> None:
        while self.work:
            self.work.pop(0)()


class Device:
    """A device of cuda.core."""

    def create_stream(self) -> Stream:
        return Stream()

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        return Buffer(size)


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
                name: _at(addresses[name], math.prod(shapes[name]) * np.dtype(kind).itemsize)
                .view(kind)
                .reshape(shapes[name])
                for name, kind in inputs.items()
            }
            for name, value in zip(outputs, self._session.run(outputs, feed), strict=True):
                _at(addresses[name], value.nbytes)[...] = value.reshape(-1).view(np.uint8)

        Stream.streams[stream_handle].work.append(run)
        return True


def _at(address: int, size: int) -> NDArray[np.uint8]:
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


class Gpu:
    """A Gpu of s2svos_engines.device."""

    name, compute_capability, driver = "stand-in", "0.0", "1.2.3"

    def use(self) -> None:
        pass

    def stream(self) -> Any:
        from s2svos_engines.device import GpuStream

        return GpuStream(Device())  # type: ignore[arg-type]


class Pinned:
    """A LegacyPinnedMemoryResource."""

    def allocate(self, size: int) -> Buffer:
        return Buffer(size)


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
CUDA_CORE = SimpleNamespace(LegacyPinnedMemoryResource=Pinned)
