"""What an engine is, and how one is chosen."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.arrays import Picture
from s2svos_engines.bundle import Bundle
from s2svos_engines.cuda.device import gpu_count
from s2svos_engines.errors import UserError

States = Sequence[NDArray[np.generic]]
"""The contract's state tensors in its order, each [N, ...] for N objects unless it is shared."""


class Cell(Protocol):
    """The step graph with the state of N objects resident in it."""

    def step(self, frame: Picture) -> NDArray[np.uint8]:
        """Advances the state by one frame.

        Args:
            frame: uint8 [H, W, 3] RGB at the contract's size.

        Returns:
            Probabilities times 255, uint8 [N, H, W], valid until the next step.
        """
        ...

    def steps(self, frames: Sequence[Picture]) -> NDArray[np.uint8]:
        """Advances the state by several frames in one call.

        Args:
            frames: as many as one of the engine's ``frames_per_call``; of a cell of many streams
                one a stream.

        Returns:
            Probabilities times 255, uint8 [T, N, H, W], of many streams [N, H, W]; valid until the
            next step.
        """
        ...

    def begin(self, frames: Sequence[Picture]) -> Callable[[], NDArray[np.uint8]]:
        """Starts what :meth:`steps` does; what it returns waits for the masks.

        As many calls as the engine's ``ahead`` may be started before the first is waited for, and
        they are waited for in their order. Masks are valid until the next call is started or waited
        for, states once all calls are done.
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
    on_gpu: bool
    """Whether it computes on a GPU, and takes frames that are there."""
    ahead: int
    """How many calls of a cell may be under way."""

    def init(self, frame: Picture, first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame`` with masks uint8 [N, H, W], 0 to 255."""
        ...

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> Cell:
        """A cell that starts from a copy of ``states``.

        Args:
            states: of N objects.
            owners: where the engine ``batches``, for a cell of many streams: int64 [N], the stream
                of each object. Shared states then have a leading axis of streams.
        """
        ...


class _Entry(NamedTuple):
    module: str
    class_name: str
    extra: str  # that installs it
    packages: tuple[tuple[str, ...], ...]  # of each group one must be there
    distribution: str = ""  # which of those that install the same package it must be


# Fastest first. A step alone takes both about as long on two AVX2 cores (33 and 30 ms), but ONNX
# Runtime's threads spin between steps, which decoding and encoding pay for: infer with an overlay
# ran at 18.7 frames/s with OpenVINO and at 16.9 with ONNX Runtime. Those of the GPU are last, so
# that they have to be asked for: they were written without one, and TensorRT builds plans for
# minutes when first used.
ENGINES = {
    "openvino": _Entry("backends.openvino", "OpenVinoEngine", "cpu", (("openvino",),)),
    "onnxruntime": _Entry("backends.onnxruntime", "OnnxRuntimeEngine", "cpu", (("onnxruntime",),)),
    "torch": _Entry("backends.torch", "TorchEngine", "train", (("torch",), ("onnx",))),
    "torch-cuda": _Entry(
        "cuda.torch", "TorchCudaEngine", "train", (("torch",), ("onnx",), ("cuda.core",))
    ),
    "onnxruntime-cuda": _Entry(
        "cuda.onnxruntime",
        "OnnxRuntimeCudaEngine",
        "gpu",
        (("onnxruntime",), ("cuda.core",)),
        "onnxruntime-gpu",
    ),
    "onnxruntime-tensorrt": _Entry(
        "cuda.onnxruntime",
        "OnnxRuntimeTensorRtEngine",
        "gpu",
        (("onnxruntime",), ("cuda.core",)),
        "onnxruntime-gpu",
    ),
    "tensorrt": _Entry("tensorrt.engine", "TensorRtEngine", "tensorrt", (("tensorrt",),)),
    "tensorrt-rtx": _Entry(
        "tensorrt.engine",
        "TensorRtRtxEngine",
        "tensorrt-rtx",
        (("tensorrt_rtx", "tensorrt_rtx_bindings"),),
    ),
}
GPU_ENGINES = (
    "torch-cuda",
    "onnxruntime-cuda",
    "onnxruntime-tensorrt",
    "tensorrt",
    "tensorrt-rtx",
)
SLOW_ENGINES = ("torch",)
"""To be asked for by name. PyTorch, node by node, is what the others are compared with."""


def installed_engines() -> list[str]:
    """Names of the engines whose packages are installed, fastest first."""
    return [
        name
        for name, entry in ENGINES.items()
        if all(any(map(_importable, group)) for group in entry.packages)
        and (not entry.distribution or _distributed(entry.distribution))
    ]


def _importable(name: str) -> bool:
    parents = [part for part in name.rpartition(".")[:1] if part]
    return all(map(_importable, parents)) and importlib.util.find_spec(name) is not None


def _distributed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


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
            raise UserError("No engine is installed", 'install one with pip install "s2svos[cpu]"')
        name = usable[0]
    if name not in ENGINES:
        raise UserError(f"There is no engine {name!r}", f"choose auto, {' or '.join(ENGINES)}")
    entry = ENGINES[name]
    remedy = f'pip install "s2svos[{entry.extra}]"'
    if name not in installed_engines():
        raise UserError(f"The engine {name} is not installed", f"install it with {remedy}")
    try:
        module = importlib.import_module(f"s2svos_engines.{entry.module}")
    except (ImportError, OSError) as error:  # a package without its library, or of another system
        raise UserError(
            f"The engine {name} is installed but does not load ({error})",
            f"install it anew with {remedy} --force-reinstall, or choose another --engine",
        ) from error
    engine_class = getattr(module, entry.class_name)
    threads = threads or len(os.sched_getaffinity(0))
    return cast(Engine, engine_class(bundle, precision=precision, threads=threads))
