"""Frames on the GPU, brought to the network's size there."""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from s2svos_engines.cuda.device import CudaStream, Gpu
from s2svos_engines.letterbox import CudaFrame

if TYPE_CHECKING:
    from cuda.core import Kernel

BLOCK = 32, 8  # threads: columns, rows


class CudaLetterbox:
    """The kernel of ``letterbox.cu``, compiled when it is first needed.

    Args:
        gpu: where the frames are.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def resize(self, stream: CudaStream, frame: CudaFrame, address: int) -> None:
        """Start to write a frame at the network's size to an address of the GPU.

        Waits on the GPU for the frame's maker, as far as the frame tells who that is.

        Args:
            stream: of the work.
            frame: uint8 [H, W, 3], contiguous or not.
            address: of uint8 [h, w, 3].
        """
        from cuda.core import LaunchConfig, launch
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_any_interface(frame.frame, stream_ptr=stream.handle)
        letterbox = frame.letterbox
        _, width, channels = view.shape
        strides = view.strides or (width * channels, channels, 1)  # in bytes, as elements are
        top, left, rows, columns = letterbox.region
        height, width = letterbox.network_size
        grid = -(-width // BLOCK[0]), -(-height // BLOCK[1])
        launch(
            stream.cuda,
            LaunchConfig(grid=grid, block=BLOCK),
            self._kernel,
            view.ptr + top * strides[0] + left * strides[1],
            *map(np.int64, strides),
            *map(np.int32, (rows, columns, *letterbox.content, letterbox.area_average)),
            address,
            *map(np.int32, letterbox.network_size),
        )

    @cached_property
    def _kernel(self) -> Kernel:
        source = files("s2svos_engines.cuda").joinpath("letterbox.cu").read_text()
        return self._gpu.compile(source, "letterbox")
