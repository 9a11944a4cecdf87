"""A tracker that needs no network: for the clips of video_files, whose object is red."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from video_files import reds


@dataclass
class FakeTracker:
    """Calls red what is red; ``on_step`` may fail or wait."""

    on_step: Callable[[int], None] = lambda index: None
    engine_name: str = "fake"
    engine: Any = field(default_factory=lambda: SimpleNamespace(precision="fp32"))
    bundle: Any = field(default_factory=lambda: SimpleNamespace(path=Path("f.s2s"), sha256="0f"))
    steps: int = 0
    label: int = 0

    def open(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> FakeTracker:
        self.label = int(mask.max())
        return self

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.steps += 1
        self.on_step(self.steps)
        return reds(frame, self.label)
