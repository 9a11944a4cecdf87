"""Frames that are on the GPU already, brought to the network's size there."""

from __future__ import annotations

from functools import cached_property
from importlib.resources import files
from typing import TYPE_CHECKING

import numpy as np

from s2svos_engines.arrays import GpuPicture
from s2svos_engines.cuda.device import Gpu, GpuStream

if TYPE_CHECKING:
    from cuda.core import Kernel

BLOCK = 32, 8  # threads: columns, rows


class Shrinker:
    """The kernel of ``letterbox.cu``, compiled when it is first needed.

    Args:
        gpu: where the frames are.
    """

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu

    def shrink(self, stream: GpuStream, picture: GpuPicture, address: int) -> None:
        """Starts to write a frame at the network's size to an address of the GPU.

        Waits on the GPU for the frame's maker, as far as the frame tells who that is.

        Args:
            stream: of the work.
            picture: of a frame uint8 [H, W, 3], contiguous or not.
            address: of uint8 [h, w, 3].
        """
        from cuda.core import LaunchConfig, launch
        from cuda.core.utils import StridedMemoryView

        view = StridedMemoryView.from_any_interface(picture.frame, stream_ptr=stream.handle)
        fit = picture.fit
        rows, columns, channels = view.shape
        strides = view.strides or (columns * channels, channels, 1)  # in bytes, as elements are
        height, width = fit.network
        grid = -(-width // BLOCK[0]), -(-height // BLOCK[1])
        launch(
            stream.cuda,
            LaunchConfig(grid=grid, block=BLOCK),
            self._kernel,
            view.ptr,
            *map(np.int64, strides),
            *map(np.int32, (rows, columns, *fit.inner, fit.coarse)),
            address,
            *map(np.int32, fit.network),
        )

    @cached_property
    def _kernel(self) -> Kernel:
        source = files("s2svos_engines.cuda").joinpath("letterbox.cu").read_text()
        return self._gpu.compile(source, "shrink")
