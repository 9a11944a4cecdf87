"""Data sets mixed by weight: what the trainer draws its clips from.

Batches of clips for the trainer."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from s2svos.data import layouts
from s2svos.data.clips import Clip, ClipSource
from s2svos.data.config import DataConfig, DataKind
from s2svos.data.config import Phase as Phase
from s2svos.data.files import BadFile, Faults
from s2svos.data.still_clips import StillClips
from s2svos.data.synthetic_clips import SyntheticClips
from s2svos.data.video_clips import LEAST_SHARE, VideoClips
from s2svos_engines.errors import UserError

TRIES = 10  # clips drawn until one shows its object
MOST_FAULTS = 100  # files in a row that cannot be used


class _Set(ClipSource, Protocol):
    def facts(self) -> dict[str, Any]: ...


class Mixture:
    """Draws from several data sets by weight; files that cannot be used are passed over.

    Args:
        sets: each with what draws its clips.
        faults: where files that cannot be used are noted.

    Attributes:
        faults: what was noted in this process.
    """

    def __init__(self, sets: Sequence[tuple[DataConfig, _Set]], faults: Faults) -> None:
        self.sets, self.faults = sets, faults
        weights = np.array([config.weight for config, _ in sets])
        self.weights = weights / weights.sum()

    @property
    def skipped(self) -> dict[str, int]:
        """How many files of each data set could not be used."""
        roots = {config.root: config.label for config, _ in self.sets if config.root}
        return dict(
            Counter(
                next((label for root, label in roots.items() if path.is_relative_to(root)), "")
                for path in self.faults.found
            )
        )

    def facts(self) -> dict[str, Any]:
        """What a checkpoint tells of its data, as JSON types."""
        return {
            "data": [
                {
                    "set": config.label,
                    "split": config.split,
                    "weight": config.weight,
                    **source.facts(),
                }
                for config, source in self.sets
            ],
            "skipped": self.skipped,
        }

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip whose object can be seen in its first frame, or the last of `TRIES` tries.

        Raises:
            UserError: the sets are read strictly and a file cannot be used, or none can.
        """
        config, source = self.sets[rng.choice(len(self.sets), p=self.weights)]
        clip, tries = None, 0
        for _ in range(MOST_FAULTS):
            try:
                clip = source.sample(rng, length, height, width)
            except BadFile as fault:
                self.faults.note(fault)
                continue
            tries += 1
            if clip.masks[0].mean() > 255 * LEAST_SHARE or tries == TRIES:
                return clip
        raise UserError(f"Hardly any file of {config.root} can be used", "restore the data set")


def open_source(data: Sequence[DataConfig], *, strict: bool = False) -> Mixture:
    """Opens data sets.

    Args:
        data: the sets, with the weights by which clips are drawn from them.
        strict: a file that cannot be used ends the training; else it is passed over, logged as a
            warning of ``s2svos.data`` and counted.

    Raises:
        UserError: a set is not there, or a file cannot be used and ``strict``.
    """
    if not data:
        raise UserError("There are no data to train on", "name a data set, or synthetic")
    faults = Faults(strict=strict)
    return Mixture([(config, _open(config, faults)) for config in data], faults)


def _open(config: DataConfig, faults: Faults) -> _Set:
    root = Path(config.root or "")
    match config.kind:
        case DataKind.DAVIS:
            videos = layouts.davis(root, config.year, config.split, faults)
        case DataKind.YOUTUBE_VOS:
            videos = layouts.youtube_vos(root, config.split, faults)
        case DataKind.FOLDER:
            videos = layouts.folder(root, faults)
        case DataKind.STILLS:
            return StillClips(config, layouts.stills(root), faults)
        case DataKind.SYNTHETIC:
            return SyntheticClips(config)
    return VideoClips(config, videos, faults)


Batch = tuple[Tensor, Tensor, list[str]]
Made = tuple[Clip | UserError, list[BadFile]]  # a clip, and faults that its process saw first


class ClipDataset(Dataset[Made]):
    """Clips by their number in a run. Clip ``i`` depends on the seed and on ``i`` alone.

    Args:
        source: of the clips.
        phase: their length and size.
        seed: of the run.
        numbers: of the clips, in the order in which they are wanted.
    """

    def __init__(self, source: ClipSource, phase: Phase, *, seed: int, numbers: list[int]) -> None:
        self.source, self.phase, self.seed, self.numbers = source, phase, seed, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> Made:
        phase, found = self.phase, _faults(self.source).found
        rng = np.random.default_rng([self.seed, self.numbers[index]])
        known = len(found)
        made: Clip | UserError
        try:
            made = self.source.sample(rng, phase.length, phase.height, phase.width)
        except UserError as error:
            # Handed over as a value: the loader would wrap what a worker raises in its traceback.
            made = error
        return made, list(found.values())[known:]


def batches(
    source: ClipSource,
    phase: Phase,
    *,
    seed: int,
    first: int,
    count: int,
    workers: int,
    rank: int = 0,
    world: int = 1,
) -> Generator[Batch]:
    """Batches of clips of one phase.

    Args:
        source: of the clips. Files that its workers had to skip are noted in its ``faults``,
            where it has such.
        phase: size, length, and clips of a joint batch.
        seed: of the run.
        first: number, in the run, of the first clip of the first joint batch.
        count: joint batches.
        workers: processes that make clips; 0 makes them in this one.
        rank, world: which of how many processes this is; each gets a contiguous, equal share of
            every joint batch.

    Yields:
        frames uint8 [T, B, 3, H, W]; masks uint8 [T, B, 1, H, W], 255 for the object; where each
        clip comes from. B is ``phase.batch / world``.

    Raises:
        UserError: the batch cannot be shared equally, or the data are at fault.
    """
    if phase.batch % world:
        raise UserError(
            f"A batch of {phase.batch} clips cannot be shared by {world} processes",
            f"choose a batch size that {world} divides",
        )
    share = phase.batch // world
    starts = range(first + rank * share, first + rank * share + count * phase.batch, phase.batch)
    numbers = [start + i for start in starts for i in range(share)]
    loader = DataLoader(
        ClipDataset(source, phase, seed=seed, numbers=numbers),
        share,
        num_workers=workers,
        collate_fn=_collate,
        prefetch_factor=4 if workers else None,
        # The pictures in memory are shared with forked workers; others would copy them.
        multiprocessing_context="fork" if workers else None,
        worker_init_fn=_quiet,
    )
    faults = _faults(source)
    # Workers are forked and share the cores: one OpenCV thread each. It is set here, not in the
    # worker, which would wait for ever for the threads that its parent had.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for made in loader:
            batch, found = made
            faults.note(*found)
            if isinstance(batch, UserError):
                raise batch
            yield batch
    finally:
        cv2.setNumThreads(threads)


def _faults(source: ClipSource) -> Faults:
    return source.faults if isinstance(source, Mixture) else Faults()


def _quiet(worker: int) -> None:
    """What a worker notes is logged once by the process that it works for."""
    logging.getLogger("s2svos.data").disabled = True


def _collate(made: list[Made]) -> tuple[Batch | UserError, list[BadFile]]:
    """A batch, in the worker: tensors reach the parent through shared memory."""
    found = [fault for _, faults in made for fault in faults]
    clips = []
    for clip, _ in made:
        if isinstance(clip, UserError):
            return clip, found
        clips.append(clip)
    frames = torch.from_numpy(np.stack([clip.frames for clip in clips], 1)).permute(0, 1, 4, 2, 3)
    masks = torch.from_numpy(np.stack([clip.masks for clip in clips], 1))[:, :, None]
    return (frames, masks, [clip.source for clip in clips]), found
