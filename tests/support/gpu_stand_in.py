"""Stands in for a GPU and cuda-core, so that what is done with them can be tested without one.

Device memory is host memory at an aligned address. Work is done in an order that CUDA would allow
and that is drawn by lot: what is given to a stream may run at once or only when it is waited for,
before or after the work of other streams, unless an event orders them. Code that lacks a wait finds
what it reads too early or overwritten.
"""

from __future__ import annotations

import ctypes
import random
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

ALIGNMENT = 256
Work = Callable[[], object]


class Lot:
    """Draws what is done next.

    Attributes:
        eager: how likely work is done before anybody waits for it.
        captured, launched: CUDA graphs so far.
    """

    def __init__(self, seed: int = 0, eager: float = 0.5) -> None:
        self.random, self.eager = random.Random(seed), eager
        self.captured = self.launched = 0
        self.streams: list[Stream] = []
        # Kept until the next lot: work that nobody waits for may be done when all else is gone.
        self.memory: list[Buffer] = []

    def some(self) -> None:
        """Does as much as it likes."""
        while self.random.random() < self.eager and self.one():
            pass

    def one(self) -> bool:
        """Does one thing that may be done; False where there is none."""
        ready = [stream for stream in self.streams if stream.ready()]
        if ready:
            self.random.choice(ready).do()
        return bool(ready)

    def until(self, done: Callable[[], bool]) -> None:
        """Does what it takes, and whatever else comes to its mind."""
        while not done():
            assert self.one(), "the streams wait for each other"


lot = Lot()


def draw(seed: int, eager: float) -> Lot:
    """Starts with nothing to do and another lot."""
    lot.__init__(seed, eager)  # type: ignore[misc]
    return lot


class Event:
    """Done when its stream has come to it."""

    def __init__(self) -> None:
        self.done = False

    def sync(self) -> None:
        lot.until(lambda: self.done)


class Stream:
    """Work in order, and waits for events between it."""

    def __init__(self) -> None:
        self.handle = id(self)
        self.work: list[Work | Event] = []
        self.recording: list[Work] | None = None
        lot.streams.append(self)

    def give(self, work: Work) -> None:
        if self.recording is not None:
            self.recording.append(work)
            return
        self.work.append(work)
        lot.some()

    def record(self) -> Event:
        assert self.recording is None
        event = Event()
        self.give(lambda: setattr(event, "done", True))
        return event

    def wait(self, event: Event) -> None:
        assert self.recording is None
        self.work.append(event)
        lot.some()

    def sync(self) -> None:
        assert self.recording is None, "CUDA forbids to wait while a stream is captured"
        lot.until(lambda: not self.work)

    def ready(self) -> bool:
        return bool(self.work) and (not isinstance(self.work[0], Event) or self.work[0].done)

    def do(self) -> None:
        first = self.work.pop(0)
        if not isinstance(first, Event):
            first()

    def create_graph_builder(self) -> Builder:
        return Builder(self)


def stream_at(handle: int) -> Stream:
    return next(stream for stream in lot.streams if stream.handle == handle)


class Builder:
    """A GraphBuilder that captures."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def begin_building(self, mode: str) -> None:
        assert self._stream.recording is None
        self._stream.recording = []

    def end_building(self) -> Builder:
        self._work, self._stream.recording = self._stream.recording or [], None
        return self

    def complete(self) -> Graph:
        lot.captured += 1
        return Graph(self._work)


class Graph:
    """What was captured, as one piece of work."""

    def __init__(self, work: list[Work]) -> None:
        self._work = work

    def launch(self, stream: Stream) -> None:
        lot.launched += 1
        stream.give(lambda: [work() for work in self._work])


class Buffer:
    """Memory at an address that is a multiple of 256."""

    def __init__(self, size: int) -> None:
        self._memory = np.full(size + ALIGNMENT, 0xAB, np.uint8)
        self.handle = -(-self._memory.ctypes.data // ALIGNMENT) * ALIGNMENT
        self.size = size
        lot.memory.append(self)

    @property
    def bytes(self) -> NDArray[np.uint8]:
        start = self.handle - self._memory.ctypes.data
        return self._memory[start : start + self.size]

    def copy_from(self, other: Buffer, *, stream: Stream) -> None:
        assert other.size == self.size
        stream.give(lambda: np.copyto(self.bytes, other.bytes))

    def copy_to(self, other: Buffer, *, stream: Stream) -> None:
        other.copy_from(self, stream=stream)


def at(address: int, size: int) -> NDArray[np.uint8]:
    """Bytes at an address."""
    return np.frombuffer((ctypes.c_uint8 * size).from_address(address), np.uint8)


class Device:
    """A device of cuda.core.

    Attributes:
        room: bytes that it has left.
    """

    room = 1 << 40

    def create_stream(self) -> Stream:
        return Stream()

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        if size > self.room:
            raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: the API call failed")
        return Buffer(size)


class Gpu:
    """A Gpu of s2svos_engines.cuda.device."""

    name, compute_capability, driver = "stand-in", "0.0", "1.2.3"

    def use(self) -> None:
        pass

    def stream(self) -> Any:
        from s2svos_engines.cuda.device import CudaStream

        return CudaStream(Device())  # type: ignore[arg-type]

    def compile(self, source: str, name: str) -> Any:
        return getattr(compiled(source), f"{name}_of_all")


HOST = """
#include <math.h>
#define __device__
#define __global__
static struct { int x, y; } blockIdx, blockDim, threadIdx;
template <class T> static T min(T a, T b) { return a < b ? a : b; }
"""
OF_ALL = """
extern "C" void letterbox_of_all(int across, int down, int wide, int high, const Byte *pixels,
                                 long long row, long long column, long long channel,
                                 int video_rows, int video_columns, int rows, int columns,
                                 int area_average, Byte *out, int height, int width) {
    blockDim = {wide, high};
    for (int i = 0; i < across * down * wide * high; i++) {
        blockIdx = {i / (wide * high) % across, i / (wide * high) / across};
        threadIdx = {i % wide, i / wide % high};
        letterbox(pixels, row, column, channel, video_rows, video_columns, rows, columns,
                  area_average, out, height, width);
    }
}
"""


def has_compiler() -> bool:
    """Whether a kernel can be compiled for the processor."""
    return shutil.which("g++") is not None


@cache
def compiled(source: str) -> ctypes.CDLL:
    """The kernel of letterbox.cu for the processor, and a loop over all threads."""
    with tempfile.TemporaryDirectory() as name:
        code, library = Path(name, "kernel.cpp"), Path(name, "kernel.so")
        code.write_text(HOST + source + OF_ALL)
        command = ["g++", "-O1", "-fPIC", "-shared", str(code), "-o", str(library)]
        subprocess.run(command, check=True)
        return ctypes.CDLL(str(library))


def launch(stream: Stream, config: SimpleNamespace, kernel: Any, *args: Any) -> None:
    """A kernel's launch; arguments have the types that CUDA's would have."""
    types = {np.int64: ctypes.c_longlong, np.int32: ctypes.c_int, int: ctypes.c_void_p}
    numbers = [types[type(one)](int(one)) for one in args]
    stream.give(lambda: kernel(*config.grid, *config.block, *numbers))


class StridedMemoryView:
    """What cuda.core sees of another library's array."""

    @staticmethod
    def from_any_interface(array: Any, stream_ptr: int) -> SimpleNamespace:
        assert stream_at(stream_ptr)
        interface = array.__cuda_array_interface__
        return SimpleNamespace(
            ptr=interface["data"][0], shape=interface["shape"], strides=interface["strides"]
        )


class OnGpu:
    """A NumPy array that passes for one on the GPU."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self._array = array
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": array.dtype.str,
            "data": (array.ctypes.data, False),
            "strides": None if array.flags.c_contiguous else array.strides,
            "version": 3,
        }


def module(name: str, **members: object) -> ModuleType:
    made = module_from_spec(ModuleSpec(name, None))
    vars(made).update(members)
    return made


MODULES = {
    one.__name__: one
    for one in (
        module(
            "cuda.core",
            LegacyPinnedMemoryResource=lambda: SimpleNamespace(allocate=Buffer),
            LaunchConfig=SimpleNamespace,
            launch=launch,
        ),
        module("cuda.core.utils", StridedMemoryView=StridedMemoryView),
    )
}
"""To be put in the place of cuda-core's."""
