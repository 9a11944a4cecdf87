"""A tracker that needs no network: for the clips of video_files, whose object is red."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from video_files import reds

from s2svos_engines.engine import Pending
from s2svos_engines.tracker import Stream

Pictures = NDArray[np.uint8]


@dataclass
class FakeTracker:
    """Calls red what is red; ``on_step`` may fail or wait, and is called before every frame.

    Attributes:
        calls: how many frames each was given.
        in_flight: how many calls had been submitted and not waited for, at most.
    """

    on_step: Callable[[int], None] = lambda index: None
    frames_per_call: tuple[int, ...] = (1,)
    max_in_flight: int = 1
    engine_name: str = "fake"
    title: str = "fake"
    precision: str = "fp32"
    window: str = "off"
    on_gpu: bool = False
    bundle: Any = field(default_factory=lambda: SimpleNamespace(path=Path("f.s2s"), sha256="0f"))
    calls: list[int] = field(default_factory=list)
    in_flight: int = 0
    waiting: int = 0

    @property
    def engine(self) -> Any:
        return self

    def open(self, frame: Pictures, mask: Pictures) -> Stream:
        height, width = mask.shape
        self.contract = SimpleNamespace(height=height, width=width, states=())
        stream = Stream(self, (height, width))  # type: ignore[arg-type]
        stream.add(frame, mask)
        return stream

    def expect(self, objects: int | None) -> None:
        pass

    def init(self, frame: Pictures, masks: Pictures) -> list[Pictures]:
        return []

    def runner(self, states: list[Pictures]) -> FakeTracker:
        return self

    def states(self) -> list[Pictures]:
        return []

    def step(self, frame: Pictures) -> Pictures:
        return self.submit([frame]).wait()[0]

    def submit(self, frames: Sequence[Pictures]) -> Pending:
        before = sum(self.calls)
        self.calls.append(len(frames))
        for index in range(len(frames)):
            self.on_step(before + index + 1)
        masks = np.stack([reds(frame, 255)[np.newaxis] for frame in frames])
        self.waiting += 1
        self.in_flight = max(self.in_flight, self.waiting)

        def wait() -> Pictures:
            self.waiting -= 1
            return masks

        return Pending(wait)
