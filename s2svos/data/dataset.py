"""Batches of training clips from several data sets, mixed by weight."""

from __future__ import annotations

import logging
import multiprocessing
import shutil
from collections import Counter
from collections.abc import Generator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from s2svos.data import layouts
from s2svos.data.clips import Clip, ClipSource
from s2svos.data.config import ONE_OBJECT, DataConfig, DataKind, ObjectSampling, Phase
from s2svos.data.files import LOGGER, BadFileError, SkippedFiles
from s2svos.data.still_clips import StillClips
from s2svos.data.synthetic_clips import SyntheticClips
from s2svos.data.video_clips import LEAST_SHARE, VideoClips
from s2svos.interrupt import ignore_stop_signals
from s2svos_engines.errors import UserError

TRIES = 10  # clips drawn until one shows its object
MAX_BAD_FILES = 100  # in a row
PREFETCH = 4  # batches that each worker makes ahead
MOST_OBJECTS = 3  # of a clip, as a rule
SHARED_MEMORY = Path("/dev/shm")  # where Linux keeps the tensors of other processes


class Batch(NamedTuple):
    """Clips of some objects each.

    Args:
        frames: uint8 [T, B, 3, H, W].
        masks: uint8 [T, N, 1, H, W], 255 for the object.
        owners: int64 [N], the clip of each object, in their order.
        sources: of the clips.
    """

    frames: Tensor
    masks: Tensor
    owners: Tensor
    sources: list[str]


class DataSet(ClipSource, Protocol):
    """A data set that clips are drawn from."""

    def facts(self) -> dict[str, Any]:
        """Return the checkpoint's record of the set, as JSON types."""
        ...


class Mixture:
    """A source of clips from several data sets by weight; passes over files that it cannot use.

    Args:
        sets: each with its settings.
        skipped: records files that cannot be used.
        objects: how many are followed.

    Attributes:
        skipped: those of this process.
    """

    def __init__(
        self,
        sets: Sequence[tuple[DataConfig, DataSet]],
        skipped: SkippedFiles,
        objects: ObjectSampling = ONE_OBJECT,
    ) -> None:
        self.skipped, self._objects = skipped, objects
        self._sets = sets
        weights = np.array([config.weight for config, _ in sets])
        self._weights = weights / weights.sum()

    def skipped_by_set(self) -> dict[str, int]:
        """Return the number of files of each data set that could not be used."""
        roots = {config.root: config.label for config, _ in self._sets if config.root}
        return dict(
            Counter(
                next((label for root, label in roots.items() if path.is_relative_to(root)), "")
                for path in self.skipped.errors
            )
        )

    def facts(self) -> dict[str, Any]:
        """Return the checkpoint's record of its data, as JSON types."""
        return {
            "data": [
                {
                    "set": config.label,
                    "split": config.split,
                    "weight": config.weight,
                    **source.facts(),
                }
                for config, source in self._sets
            ],
            "skipped": self.skipped_by_set(),
        }

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip with one or more objects to follow.

        Raises:
            UserError: the sets are read strictly and a file cannot be used, or none can.
        """
        sampling = self._objects
        count = 1 + int(rng.choice(len(sampling.counts), p=sampling.counts))
        clip = self._draw(rng, length, height, width)
        if count == 1:
            clip = clip.only([0])
        if rng.random() < (sampling.paste if count == 1 else sampling.paste_more):
            other = self._draw(rng, length, height, width)
            pasted = clip.with_objects_of(other, in_front=rng.random() < sampling.front)
            if 0 in pasted.seen(LEAST_SHARE):
                clip = pasted
        others = [i for i in clip.seen(LEAST_SHARE) if i]
        return clip.only([0, *others[: count - 1]])

    def _draw(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip whose object can be seen in its first frame, or the last of `TRIES` clips."""
        config, source = self._sets[rng.choice(len(self._sets), p=self._weights)]
        tries = 0
        for _ in range(MAX_BAD_FILES):
            try:
                clip = source.sample(rng, length, height, width)
            except BadFileError as error:
                self.skipped.add(error)
                continue
            tries += 1
            if 0 in clip.seen(LEAST_SHARE) or tries == TRIES:
                return clip
        raise UserError(f"Hardly any file of {config.root} can be used", "restore the data set")


def open_source(
    data: Sequence[DataConfig],
    *,
    objects: ObjectSampling = ONE_OBJECT,
    strict: bool = False,
) -> Mixture:
    """Open data sets.

    Args:
        data: the sets, with the weights by which clips are drawn from them.
        objects: how many of a clip are followed.
        strict: a file that cannot be used ends the training; else it is passed over, logged as a
            warning of ``s2svos.data`` and counted.

    Raises:
        UserError: a set is not there, or a file cannot be used and ``strict``.
    """
    if not data:
        raise UserError("There are no data to train on", "name a data set, or synthetic")
    skipped = SkippedFiles(strict=strict)
    return Mixture([(config, _open(config, skipped)) for config in data], skipped, objects)


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
    """Yield the batches of clips of one phase.

    Args:
        source: of the clips. Files that its workers had to skip are recorded in a mixture's
            ``skipped``.
        phase: size, length, and clips of a joint batch.
        seed: of the run.
        first: number, in the run, of the first clip of the first joint batch.
        count: joint batches.
        workers: processes that make clips; 0 makes them in this one.
        rank, world: number of this process and how many there are; each gets a contiguous, equal
            share of every joint batch.

    Yields:
        Batches of ``phase.batch / world`` clips.

    Raises:
        UserError: the batch cannot be shared equally, or the data cannot be used.
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
        _Clips(source, phase, seed=seed, numbers=numbers),
        share,
        num_workers=workers,
        collate_fn=partial(_collate, shared=_fits_shared_memory(phase, share, workers)),
        prefetch_factor=PREFETCH if workers else None,
        multiprocessing_context=_start_method() if workers else None,
        worker_init_fn=_begin_worker,
    )
    skipped = _skipped(source)
    # Workers are forked and share the cores: one OpenCV thread each. It is set here, not in the
    # worker, which would wait for ever for the threads that its parent had.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        for collated in loader:
            batch, errors = collated
            skipped.add(*errors)
            if isinstance(batch, UserError):
                raise batch
            frames, masks, owners = map(torch.as_tensor, batch[:3])
            yield Batch(frames, masks, owners, batch[3])
    finally:
        cv2.setNumThreads(threads)


_Sample = tuple[Clip | UserError, list[BadFileError]]  # the errors that its process met first


class _Clips(Dataset[_Sample]):
    """Clips by their number in a run. Clip ``i`` depends on the seed and on ``i`` alone.

    Args:
        source: of the clips.
        phase: their length and size.
        seed: of the run.
        numbers: of the clips, in the order in which they are wanted.
    """

    def __init__(self, source: ClipSource, phase: Phase, *, seed: int, numbers: list[int]) -> None:
        self._source, self._phase, self._seed, self._numbers = source, phase, seed, numbers

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> _Sample:
        phase, errors = self._phase, _skipped(self._source).errors
        rng = np.random.default_rng([self._seed, self._numbers[index]])
        known = len(errors)
        sample: Clip | UserError
        try:
            sample = self._source.sample(rng, phase.length, phase.height, phase.width)
        except UserError as error:
            # Handed over as a value: the loader would wrap what a worker raises in its traceback.
            sample = error
        return sample, list(errors.values())[known:]


def _open(config: DataConfig, skipped: SkippedFiles) -> DataSet:
    root = Path(config.root or "")
    match config.kind:
        case DataKind.DAVIS:
            videos = layouts.davis(root, config.year, config.split, skipped)
        case DataKind.YOUTUBE_VOS:
            videos = layouts.youtube_vos(root, config.split, skipped)
        case DataKind.FOLDER:
            videos = layouts.folder(root, skipped)
        case DataKind.STILLS:
            return StillClips(config, layouts.stills(root), skipped)
        case DataKind.SYNTHETIC:
            return SyntheticClips(config)
    return VideoClips(config, videos, skipped)


def _skipped(source: ClipSource) -> SkippedFiles:
    return source.skipped if isinstance(source, Mixture) else SkippedFiles()


def _start_method() -> str:
    """Return how workers start: forked, if the system can, they share the pictures in memory."""
    return "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"


def _begin_worker(worker: int) -> None:
    """Leave it to the process that a worker works for to log each file once, and when to stop."""
    ignore_stop_signals()
    logging.getLogger(LOGGER).disabled = True


def _fits_shared_memory(phase: Phase, share: int, workers: int) -> bool:
    """Return whether all batches that wait fit /dev/shm, of which a container may have 64 MB.

    A worker that finds it full dies, and its clips are waited for without end.
    """
    if not SHARED_MEMORY.is_dir():
        return True
    batch = share * phase.length * phase.height * phase.width * (3 + MOST_OBJECTS)
    free = shutil.disk_usage(SHARED_MEMORY).free
    return free > 2 * PREFETCH * max(1, workers) * batch


def _collate(
    samples: list[_Sample], *, shared: bool
) -> tuple[tuple[Any, ...] | UserError, list[BadFileError]]:
    """Make a batch, in the worker.

    Args:
        samples: of the batch.
        shared: tensors reach the parent through shared memory; else arrays do, through a pipe.

    Returns:
        The fields of a :class:`Batch`, or the error that ended it; and files that were skipped.
    """
    errors = [error for _, some in samples for error in some]
    clips = []
    for clip, _ in samples:
        if isinstance(clip, UserError):
            return clip, errors
        clips.append(clip)
    frames = np.stack([clip.frames for clip in clips], 1).transpose(0, 1, 4, 2, 3)
    masks = np.concatenate([clip.masks for clip in clips], 1)[:, :, None]
    owners = np.repeat(np.arange(len(clips)), [clip.masks.shape[1] for clip in clips])
    arrays = (torch.from_numpy(x) if shared else x for x in (frames, masks, owners))
    return (*arrays, [clip.source for clip in clips]), errors
