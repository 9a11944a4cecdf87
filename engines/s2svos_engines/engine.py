"""What an engine is, and how one is chosen."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Sequence
from typing import Protocol, cast

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError

States = Sequence[NDArray[np.generic]]
"""The contract's state tensors in its order, each [N, ...] for N objects."""


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


class Engine(Protocol):
    """A bundle's graphs, compiled. Shared by all streams; holds nothing of any of them."""

    name: str
    precision: str
    frames_per_call: tuple[int, ...]
    """How many frames a call of a cell may take, rising; 1 is first."""

    def init(self, frame: NDArray[np.uint8], first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame`` with masks uint8 [N, H, W], 0 to 255."""
        ...

    def cell(self, states: States) -> Cell:
        """A cell that starts from a copy of ``states``."""
        ...


# Fastest first. A step alone takes both about as long on two AVX2 cores (36 and 35 ms), but ONNX
# Runtime's threads spin between steps, which decoding and encoding pay for: infer with an overlay
# ran at 18.7 frames/s with OpenVINO and at 16.9 with ONNX Runtime. Values: module, class, package
# that must be there.
ENGINES = {
    "openvino": ("s2svos_engines.openvino_engine", "OpenVinoEngine", "openvino"),
    "onnxruntime": ("s2svos_engines.onnxruntime_engine", "OnnxRuntimeEngine", "onnxruntime"),
}


def installed_engines() -> list[str]:
    """Names of the engines whose package is installed, fastest first."""
    return [name for name, (*_, package) in ENGINES.items() if importlib.util.find_spec(package)]


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
        name: an engine, or ``auto`` for the fastest that is installed.
        precision: of the graphs, one that the bundle has.
        threads: processor threads of a step; None for one a core.

    Raises:
        UserError: there is no such engine, its package is missing, the bundle lacks the precision,
            or the engine refuses the graphs.
    """
    installed = installed_engines()
    if name == "auto":
        if not installed:
            raise UserError('No engine is installed; install one with pip install "s2svos[cpu]".')
        name = installed[0]
    if name not in ENGINES:
        raise UserError(f"There is no engine {name!r}; choose auto, {' or '.join(ENGINES)}.")
    if name not in installed:
        raise UserError(
            f'The engine {name} is not installed; install it with pip install "s2svos[cpu]".'
        )
    module, class_name, _ = ENGINES[name]
    engine_class = getattr(importlib.import_module(module), class_name)
    threads = threads or len(os.sched_getaffinity(0))
    return cast(Engine, engine_class(bundle, precision=precision, threads=threads))
