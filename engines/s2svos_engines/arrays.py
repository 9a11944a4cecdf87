"""Frames where they are: in the host's memory, or on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import Fit


class CudaArray(Protocol):
    """An array on a GPU: of PyTorch, CuPy, PyCUDA or anything else that has this attribute."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


Frame = NDArray[np.uint8] | CudaArray
"""Of a video: uint8 [H, W, 3], RGB."""


@dataclass(frozen=True)
class GpuPicture:
    """A frame on a GPU, to be brought to the network's size there.

    Args:
        frame: of the video.
        fit: into the network's frame.
    """

    frame: CudaArray
    fit: Fit


Picture = NDArray[np.uint8] | GpuPicture
"""A frame at the network's size, uint8 [H, W, 3], or one that the GPU will bring to it."""


def on_gpu(frame: Frame) -> bool:
    """Whether a frame is on a GPU."""
    return hasattr(frame, "__cuda_array_interface__")


def kind(frame: Frame) -> tuple[str, tuple[int, ...]]:
    """NumPy's name of the type of a frame's elements, and its shape.

    Raises:
        UserError: it is no array.
    """
    if isinstance(frame, np.ndarray):
        return str(frame.dtype), frame.shape
    if not on_gpu(frame):
        raise UserError(
            f"A frame is a NumPy array or one on a GPU, not {type(frame).__name__}",
            "convert it with numpy.asarray",
        )
    interface = frame.__cuda_array_interface__
    return str(np.dtype(interface["typestr"])), tuple(interface["shape"])


def shrunk(frame: Frame, fit: Fit) -> Picture:
    """A frame at the network's size."""
    return fit.shrink(frame) if isinstance(frame, np.ndarray) else GpuPicture(frame, fit)
