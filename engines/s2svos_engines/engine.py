"""What an engine is, and how one is chosen."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.device import gpu_count
from s2svos_engines.errors import UserError

States = Sequence[NDArray[np.generic]]
"""The contract's state tensors in its order, each [N, ...] for N objects unless it is shared."""


class Cell(Protocol):
    """The step graph with the state of N objects resident in it."""

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Advances the state by one frame.

        Args:
            frame: uint8 [H, W, 3] RGB at the contract's size, C-contiguous.

        Returns:
            Probabilities times 255, uint8 [N, H, W], valid until the next step.
        """
        ...

    def steps(self, frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Advances the state by several frames in one call.

        Args:
            frames: uint8 [T, H, W, 3], where T is one of the engine's ``frames_per_call``.

        Returns:
            Probabilities times 255, uint8 [T, N, H, W], valid until the next step.
        """
        ...

    def states(self) -> States:
        """The current state; valid until the next step."""
        ...

    def load(self, states: States) -> None:
        """Goes on from a copy of ``states``, of as many objects as the cell has."""
        ...


class Engine(Protocol):
    """A bundle's graphs, compiled. Shared by all streams; holds nothing of any of them."""

    name: str
    precision: str
    frames_per_call: tuple[int, ...]
    """How many frames a call of a cell may take, rising; 1 is first."""
    batches: bool
    """Whether a cell may hold many streams: whether the bundle has a ``batch`` graph."""

    def init(self, frame: NDArray[np.uint8], first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame`` with masks uint8 [N, H, W], 0 to 255."""
        ...

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> Cell:
        """A cell that starts from a copy of ``states``.

        Args:
            states: of N objects.
            owners: where the engine ``batches``, for a cell of many streams: int64 [N], the stream
                of each object. The cell steps on uint8 [streams, H, W, 3], and shared states have a
                leading axis of streams.
        """
        ...


class _Entry(NamedTuple):
    module: str
    class_name: str
    extra: str  # that installs it
    packages: tuple[tuple[str, ...], ...]  # of each group one must be there


# Fastest first. A step alone takes both about as long on two AVX2 cores (33 and 30 ms), but ONNX
# Runtime's threads spin between steps, which decoding and encoding pay for: infer with an overlay
# ran at 18.7 frames/s with OpenVINO and at 16.9 with ONNX Runtime. TensorRT is last, so that it has
# to be asked for: it was written without a GPU, and builds plans for minutes when first used.
ENGINES = {
    "openvino": _Entry("openvino_engine", "OpenVinoEngine", "cpu", (("openvino",),)),
    "onnxruntime": _Entry("onnxruntime_engine", "OnnxRuntimeEngine", "cpu", (("onnxruntime",),)),
    "torch": _Entry("torch_engine", "TorchEngine", "train", (("torch",), ("onnx",))),
    "tensorrt": _Entry("tensorrt_engine", "TensorRtEngine", "tensorrt", (("tensorrt",),)),
    "tensorrt-rtx": _Entry(
        "tensorrt_engine",
        "TensorRtRtxEngine",
        "tensorrt-rtx",
        (("tensorrt_rtx", "tensorrt_rtx_bindings"),),
    ),
}
GPU_ENGINES = ("tensorrt", "tensorrt-rtx")
SLOW_ENGINES = ("torch",)
"""To be asked for by name. PyTorch, node by node, is what the others are compared with."""


def installed_engines() -> list[str]:
    """Names of the engines whose packages are installed, fastest first."""
    return [
        name
        for name, entry in ENGINES.items()
        if all(any(map(importlib.util.find_spec, group)) for group in entry.packages)
    ]


def usable_engines() -> list[str]:
    """Names of the installed engines whose processor is here too, fastest first."""
    installed = installed_engines()
    gpu = not set(installed).isdisjoint(GPU_ENGINES) and gpu_count() > 0
    return [name for name in installed if gpu or name not in GPU_ENGINES]


def load_engine(
    bundle: Bundle,
    name: str = "auto",
    *,
    precision: str = "fp32",
    threads: int | None = None,
) -> Engine:
    """Compiles a bundle's graphs.

    Args:
        bundle: checked bundle.
        name: an engine, or ``auto`` for the fastest that is installed, none of the slow ones.
        precision: of the graphs, one that the bundle has.
        threads: processor threads of a step; None for one a core.

    Raises:
        UserError: there is no such engine, its package is missing, the bundle lacks the precision,
            or the engine refuses the graphs.
    """
    if name == "auto":
        usable = [engine for engine in usable_engines() if engine not in SLOW_ENGINES]
        if not usable:
            raise UserError('No engine is installed; install one with pip install "s2svos[cpu]".')
        name = usable[0]
    if name not in ENGINES:
        raise UserError(f"There is no engine {name!r}; choose auto, {' or '.join(ENGINES)}.")
    entry = ENGINES[name]
    remedy = f'pip install "s2svos[{entry.extra}]"'
    if name not in installed_engines():
        raise UserError(f"The engine {name} is not installed; install it with {remedy}.")
    try:
        module = importlib.import_module(f"s2svos_engines.{entry.module}")
    except (ImportError, OSError) as error:  # a package without its library, or of another system
        raise UserError(
            f"The engine {name} is installed but does not load ({error}); install it anew with "
            f"{remedy} --force-reinstall, or choose another --engine."
        ) from error
    engine_class = getattr(module, entry.class_name)
    threads = threads or len(os.sched_getaffinity(0))
    return cast(Engine, engine_class(bundle, precision=precision, threads=threads))
