"""An NVIDIA GPU: its memory, streams and CUDA graphs. Needs cuda-core.

Knows nothing of the network.
"""

from __future__ import annotations

import ctypes
import gc
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.errors import UserError
from s2svos_engines.registry import gpu_count

if TYPE_CHECKING:
    from cuda.core import Buffer, Device, Event, Kernel
    from cuda.core.graph import Graph


class Gpu:
    """The first GPU that CUDA_VISIBLE_DEVICES leaves.

    Attributes:
        name: for instance ``NVIDIA H200``.
        compute_capability: for instance ``9.0``.
        driver: version of the kernel's driver, for instance ``580.65.6``.

    Raises:
        UserError: there is no GPU, or cuda-core is missing.
    """

    def __init__(self) -> None:
        if not gpu_count():
            raise UserError(
                "No NVIDIA GPU with a driver is here",
                "install the driver, or choose --engine openvino or onnxruntime",
            )
        try:
            from cuda.core import Device, system
        except ImportError as error:
            raise UserError(
                "cuda-core is not installed", 'install it with pip install "cuda-core[cu13]>=1.1"'
            ) from error
        self._device = Device(0)
        self.use()
        self.name = self._device.name
        self.compute_capability = ".".join(map(str, self._device.compute_capability))
        self.driver = ".".join(map(str, system.get_kernel_mode_driver_version()))

    def use(self) -> None:
        """Make it the calling thread's GPU; CUDA wants that once in each thread."""
        self._device.set_current()

    def stream(self) -> CudaStream:
        """Make a new CUDA stream."""
        return CudaStream(self._device)

    def compile(self, source: str, name: str) -> Kernel:
        """Compile a kernel of CUDA C++, declared ``extern "C"``."""
        from cuda.core import Program, ProgramOptions

        options = ProgramOptions(arch=f"sm_{self._device.arch}")
        return Program(source, "c++", options).compile("cubin").get_kernel(name)


class CudaStream:
    """A CUDA stream: work on a GPU that runs in the order in which it is submitted.

    Attributes:
        cuda: the stream of cuda-core.
        handle: the address of CUDA's stream.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.cuda = device.create_stream()
        self.handle = int(self.cuda.handle)

    def array(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """Allocate an array on the GPU, uninitialised.

        Other streams may use it once this one was waited for. Its memory is freed in the order of
        this stream, once nothing refers to it.

        Raises:
            UserError: the GPU's memory is full.
        """
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        try:
            buffer = self._device.allocate(nbytes, stream=self.cuda)
        except Exception as error:  # cuda-core has no public type for CUDA's errors
            if "OUT_OF_MEMORY" not in str(error):
                raise
            raise out_of_memory(f"an array of {nbytes / 2**20:.1f} MiB") from error
        return DeviceArray(buffer, shape, dtype)

    def event(self) -> Event:
        """Record an event that is done once all work submitted so far is done."""
        return self.cuda.record()

    def after(self, event: Event) -> None:
        """Let the work submitted from now on wait for an event of another stream."""
        self.cuda.wait(event)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Capture what a function submits to this stream as one CUDA graph, without running it.

        Every launch works on the same addresses.
        """
        builder = self.cuda.create_graph_builder()
        with no_collection():
            builder.begin_building(mode="thread_local")
            try:
                work()
            except BaseException:
                with suppress(Exception):  # the capture is void, which it would complain of
                    builder.end_building()
                raise
            return builder.end_building().complete()

    def launch(self, graph: Graph) -> None:
        """Launch a captured graph."""
        graph.launch(self.cuda)

    def wait(self) -> None:
        """Wait until all work is done."""
        self.cuda.sync()


class DeviceArray:
    """An array on the GPU with a twin in page-locked memory of the host.

    Attributes:
        address: on the GPU; a multiple of 256 bytes, as CUDA allocates.
        shape: its dimensions.
        dtype: NumPy's name of its elements' type.
    """

    def __init__(self, buffer: Buffer, shape: tuple[int, ...], dtype: str) -> None:
        self._buffer, self.shape, self.dtype = buffer, shape, dtype
        self.address = int(buffer.handle)

    @property
    def __cuda_array_interface__(self) -> dict[str, object]:
        """The array for other libraries; without a stream, so that they do not wait."""
        typestr = np.dtype(self.dtype).str
        data = (self.address, False)
        return {"shape": self.shape, "typestr": typestr, "data": data, "version": 3}

    def upload(self, stream: CudaStream, value: NDArray[Any]) -> None:
        """Copy ``value`` to the host twin now, and start to copy that to the GPU."""
        self.host[...] = value
        self.send(stream)

    def send(self, stream: CudaStream) -> None:
        """Start to copy the host twin to the GPU."""
        self._buffer.copy_from(self._pinned, stream=stream.cuda)

    def download(self, stream: CudaStream) -> NDArray[Any]:
        """Start to copy the array to its host twin, and return that."""
        self._buffer.copy_to(self._pinned, stream=stream.cuda)
        return self.host

    def copy(self, stream: CudaStream, other: DeviceArray) -> None:
        """Start to copy another array of the same size into this one, on the GPU."""
        self._buffer.copy_from(other._buffer, stream=stream.cuda)

    @cached_property
    def host(self) -> NDArray[Any]:
        """The host twin, in page-locked memory."""
        memory: Any = (ctypes.c_uint8 * self._buffer.size).from_address(int(self._pinned.handle))
        memory.owner = self._pinned  # lives as long as any view of it
        return np.frombuffer(memory, self.dtype).reshape(self.shape)

    @cached_property
    def _pinned(self) -> Buffer:
        from cuda.core import LegacyPinnedMemoryResource

        return LegacyPinnedMemoryResource().allocate(self._buffer.size)


@contextmanager
def no_collection() -> Iterator[None]:
    """Switch the garbage collector off.

    It may free page-locked memory, which CUDA forbids to a thread that captures.
    """
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()


def out_of_memory(what: str) -> UserError:
    """Return the error for a GPU without room for ``what``."""
    return UserError(
        f"The GPU has too little memory for {what}",
        "end other programs on it, follow fewer objects or streams at once, or choose --engine "
        "openvino or onnxruntime",
    )
