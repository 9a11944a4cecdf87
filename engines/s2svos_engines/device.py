"""Memory of an NVIDIA GPU. Needs cuda-core; knows nothing of what runs on it."""

from __future__ import annotations

import ctypes
import math
import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from cuda.core import Buffer, Device


def gpu_count() -> int:
    """How many GPUs the NVIDIA driver offers; 0 without a driver. Needs no package."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


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
                "No NVIDIA GPU with a driver is here; install the driver, or choose "
                "--engine openvino or onnxruntime."
            )
        try:
            from cuda.core import Device, system
        except ImportError as error:
            raise UserError(
                'cuda-core is not installed; install it with pip install "s2svos[tensorrt]".'
            ) from error
        self._device = Device(0)
        self.use()
        self.name = self._device.name
        self.compute_capability = ".".join(map(str, self._device.compute_capability))
        self.driver = ".".join(map(str, system.get_kernel_mode_driver_version()))

    def use(self) -> None:
        """Makes it the calling thread's GPU; CUDA wants that once in each thread."""
        self._device.set_current()

    def stream(self) -> GpuStream:
        """A new stream of work."""
        return GpuStream(self._device)


class GpuStream:
    """Work on a GPU, done in the order in which it is given.

    Attributes:
        handle: the address of CUDA's stream.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self.cuda = device.create_stream()
        self.handle = int(self.cuda.handle)

    def array(self, shape: tuple[int, ...], dtype: str) -> DeviceArray:
        """An array on the GPU, of whatever happens to be in its memory."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        return DeviceArray(self, self._device.allocate(nbytes, stream=self.cuda), shape, dtype)

    def wait(self) -> None:
        """Returns when all work is done."""
        self.cuda.sync()


class DeviceArray:
    """An array on the GPU with a twin in page-locked memory of the host.

    Attributes:
        address: on the GPU; a multiple of 256 bytes, as CUDA allocates.
        shape: its dimensions.
    """

    def __init__(
        self, stream: GpuStream, buffer: Buffer, shape: tuple[int, ...], dtype: str
    ) -> None:
        self._stream, self._buffer, self.shape, self._dtype = stream, buffer, shape, dtype
        self.address = int(buffer.handle)

    def upload(self, value: NDArray[Any]) -> None:
        """Copies ``value`` to the twin now, and starts to copy that to the GPU."""
        self.host[...] = value
        self._buffer.copy_from(self._pinned, stream=self._stream.cuda)

    def download(self) -> NDArray[Any]:
        """Starts to copy the array to the twin, which it returns."""
        self._buffer.copy_to(self._pinned, stream=self._stream.cuda)
        return self.host

    @cached_property
    def host(self) -> NDArray[Any]:
        """The twin."""
        memory: Any = (ctypes.c_uint8 * self._buffer.size).from_address(int(self._pinned.handle))
        memory.owner = self._pinned  # lives as long as any view of it
        return np.frombuffer(memory, self._dtype).reshape(self.shape)

    @cached_property
    def _pinned(self) -> Buffer:
        from cuda.core import LegacyPinnedMemoryResource

        return LegacyPinnedMemoryResource().allocate(self._buffer.size)
