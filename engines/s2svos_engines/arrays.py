"""The arrays that frames, masks and states are, on the host and on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.errors import UserError

Frame = NDArray[np.uint8]
"""A frame on the host: uint8 [H, W, 3], RGB."""

Labels = NDArray[np.uint8]
"""Object ids of a frame's pixels: uint8 [H, W], 0 for the background."""

AnyMask = NDArray[np.integer[Any]] | NDArray[np.bool_]
"""Object ids as a caller may have them: integer [H, W], 0 to 255, or bool of one object."""

Masks = NDArray[np.uint8]
"""Probabilities times 255 of N objects: uint8 [N, H, W]."""

States = Sequence[NDArray[np.generic]]
"""The contract's state tensors in its order, each [N, ...] for N objects unless they have it in
common."""


class CudaArray(Protocol):
    """An array on a GPU: of PyTorch, CuPy, PyCUDA or any library that has this attribute."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...


AnyFrame = Frame | CudaArray
"""A frame on the host or on a GPU: uint8 [H, W, 3], RGB."""


def on_gpu(frame: AnyFrame) -> bool:
    """Return whether a frame is on a GPU."""
    return hasattr(frame, "__cuda_array_interface__")


def as_labels(mask: object) -> Labels:
    """Return a mask as object ids; True of a bool mask, as SAM gives it, is object 1.

    Args:
        mask: bool or integer [H, W], ids from 0 to 255.

    Returns:
        uint8 [H, W].

    Raises:
        UserError: it is no such array.
    """
    if not isinstance(mask, np.ndarray):
        raise UserError(
            f"A mask is a NumPy array of ids [H, W], not {type(mask).__name__}",
            "convert it with numpy.asarray",
        )
    if mask.ndim != 2 or mask.dtype.kind not in "bui":
        raise UserError(
            f"A mask holds ids, bool or integer [H, W], not {mask.dtype} {list(mask.shape)}",
            "give each object a whole number from 1 to 255, and 0 to the background",
        )
    if mask.dtype != np.uint8 and mask.size and not 0 <= mask.min() <= mask.max() <= 255:
        raise UserError(
            f"The mask holds ids from {mask.min()} to {mask.max()}", "number objects from 1 to 255"
        )
    return mask.astype(np.uint8, copy=False)


def object_ids(labels: Labels) -> NDArray[np.uint8]:
    """Return the ids that are on a frame, rising, uint8 [N]; the background is none."""
    # np.unique sorts the pixels, and imports numpy.ma: 25 ms of a run's start.
    counts = np.bincount(labels.ravel(), minlength=256)
    return (np.flatnonzero(counts[1:]) + 1).astype(np.uint8)


def dtype_and_shape(frame: AnyFrame) -> tuple[str, tuple[int, ...]]:
    """Return NumPy's name of a frame's element type, and its shape.

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
