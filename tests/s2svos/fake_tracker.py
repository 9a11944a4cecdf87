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
    """Calls red what is red; ``on_step`` may fail or wait, and is called before every frame."""

    on_step: Callable[[int], None] = lambda index: None
    frames_per_call: tuple[int, ...] = (1,)
    ahead: int = 1
    engine_name: str = "fake"
    bundle: Any = field(default_factory=lambda: SimpleNamespace(path=Path("f.s2s"), sha256="0f"))
    calls: list[int] = field(default_factory=list)  # how many frames each was given
    label: int = 0

    @property
    def engine(self) -> Any:
        return SimpleNamespace(
            precision="fp32", frames_per_call=self.frames_per_call, ahead=self.ahead
        )

    def open(self, frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> FakeTracker:
        self.label = int(mask.max())
        return self

    def steps(self, frames: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
        before = sum(self.calls)
        self.calls.append(len(frames))
        for index in range(len(frames)):
            self.on_step(before + index + 1)
        return [reds(frame, self.label) for frame in frames]
