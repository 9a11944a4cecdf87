"""Batches of clips for the trainer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from s2svos.data.clips import Clip, ClipSource


@dataclass(frozen=True)
class Phase:
    """A stretch of training with clips of one kind.

    Args:
        steps: optimiser steps.
        batch: clips a step.
        length: frames a clip.
        height, width: pixels.
    """

    steps: int
    batch: int
    length: int
    height: int
    width: int


class ClipDataset(Dataset[Clip]):
    """The clips of a phase. Clip ``i`` depends on the seed and on ``i`` alone."""

    def __init__(self, source: ClipSource, phase: Phase, *, seed: int, first: int) -> None:
        self.source, self.phase, self.seed, self.first = source, phase, seed, first

    def __len__(self) -> int:
        return self.phase.batch * self.phase.steps - self.first

    def __getitem__(self, index: int) -> Clip:
        phase = self.phase
        rng = np.random.default_rng([self.seed, phase.height, self.first + index])
        return self.source.sample(rng, phase.length, phase.height, phase.width)


def _collate(clips: list[Clip]) -> tuple[Tensor, Tensor]:
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips], 1)).permute(0, 1, 4, 2, 3)
    masks = torch.from_numpy(np.stack([clip.masks for clip in clips], 1))[:, :, None]
    return frames, masks


def batches(
    source: ClipSource, phase: Phase, *, seed: int, done: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of a phase from step ``done`` on.

    Yields:
        frames uint8 [T, B, 3, H, W] and masks uint8 [T, B, 1, H, W], 255 for the object.
    """
    dataset = ClipDataset(source, phase, seed=seed, first=done * phase.batch)
    loader = DataLoader(
        dataset,
        phase.batch,
        num_workers=workers,
        collate_fn=_collate,
        prefetch_factor=4 if workers else None,
    )
    # Workers are forked and share the cores: one OpenCV thread each. It is set here, not in the
    # worker, which would wait for ever for the threads that its parent had.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield from loader
    finally:
        cv2.setNumThreads(threads)
