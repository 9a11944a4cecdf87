"""Clips out of videos: random speed, direction, start, and one camera motion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from s2svos.data.augment import ColourJitter, Trajectory
from s2svos.data.clips import Clip
from s2svos.data.config import DataConfig, DataKind
from s2svos.data.files import (
    BadFileError,
    SkippedFiles,
    decoded_size,
    foreground,
    read_all,
    read_pair,
)
from s2svos.data.layouts import VideoFiles
from s2svos.data.warp import at_level, pyramid_level, warp_affine
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError

LEAST_SHARE = 0.002  # of the first frame that an object must cover to be followed
SPEED, SPARSE_SPEED = 6, 2  # fastest clips; sparse: where every fifth frame is annotated


@dataclass(frozen=True)
class _Video:
    """The annotated frames of a video.

    Args:
        name: of the video.
        pairs: frame and mask by stem, in order.
        listed: id to the stems on which the object is annotated; None: wherever there is a mask.
        merge: all ids are one object.
    """

    name: str
    pairs: dict[str, tuple[Path, Path]]
    listed: dict[int, tuple[str, ...]] | None
    merge: bool


class VideoClips:
    """Excerpts of videos at random speed, direction, scale, place and colour.

    Each clip follows one object. `DataConfig.memory` decides whether the set is kept in memory.

    Args:
        config: of the data set.
        videos: its files.
        skipped: records files that cannot be used.

    Raises:
        UserError: no frame can be used, or one cannot and the set is read strictly.
    """

    def __init__(self, config: DataConfig, videos: list[VideoFiles], skipped: SkippedFiles) -> None:
        self._config, self._skipped = config, skipped
        usual = SPARSE_SPEED if config.kind is DataKind.YOUTUBE_VOS else SPEED
        self._max_speed = config.video.max_speed or usual
        complete = config.kind is not DataKind.FOLDER  # others may be annotated here and there
        annotated = [_annotated(video, skipped, complete=complete) for video in videos]
        self._videos = [video for video in annotated if video.pairs]
        self._in_memory: dict[Path, tuple[Frame, Labels]] = {}
        if _fits(self._videos, config.memory):
            self._load()
        if not self._videos:
            raise UserError(
                f"No frame with a mask in {config.root} can be used", "restore the data"
            )

    def facts(self) -> dict[str, Any]:
        """Return the checkpoint's record of the set, as JSON types."""
        return {
            "videos": [video.name for video in self._videos],
            "frames": sum(len(video.pairs) for video in self._videos),
        }

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip of ``length`` frames; its object may be out of sight.

        Raises:
            BadFileError: a frame or mask of the excerpt cannot be used.
        """
        sampling = self._config.video
        video = self._videos[rng.integers(len(self._videos))]
        stems, object_id = list(video.pairs), None
        if video.listed is not None:
            object_id = _choose(rng, list(video.listed))
            stems = [stem for stem in video.listed[object_id] if stem in video.pairs]
        chosen = [stems[i] for i in excerpt(rng, len(stems), length, self._max_speed)]
        if rng.random() < sampling.reverse:
            chosen.reverse()

        pairs = [self._pair(video, stem) for stem in chosen]
        first = pairs[0][1]
        if object_id is None and not video.merge:
            object_id = _choose(rng, _visible(first) or [1])
        masks = [foreground(labels, object_id) for _, labels in pairs]
        rows, columns = first.shape
        pivot = np.array([columns / 2, rows / 2])
        moments = cv2.moments(masks[0], binaryImage=True)
        if moments["m00"]:
            centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
            pivot += rng.uniform(*sampling.towards_object) * (centre - pivot)
        trajectory = Trajectory.sample(
            rng,
            length,
            centre=(width * rng.uniform(*sampling.centre), height * rng.uniform(*sampling.centre)),
            scale=max(width / columns, height / rows) * np.exp(rng.uniform(*sampling.log_scale)),
            angle=rng.normal(0, sampling.angle),
            speed=sampling.camera_speed * width * (rng.random() < sampling.moving),
        )
        mirror = bool(rng.random() < sampling.mirror)
        colour = ColourJitter(rng, self._config.colour)

        clip_frames = np.empty((length, height, width, 3), np.uint8)
        clip_masks = np.empty((length, height, width), np.uint8)
        scale = float(trajectory.scale.mean())
        maps = trajectory.matrices((pivot[0], pivot[1]), mirror=mirror)
        for t, ((frame, _), mask) in enumerate(zip(pairs, masks, strict=True)):
            small, level = pyramid_level(frame, scale)
            matrix = at_level(maps[t], level)
            clip_frames[t] = colour(warp_affine(small, matrix, height, width))
            clip_masks[t] = warp_affine(pyramid_level(mask, scale)[0], matrix, height, width)
        return Clip(clip_frames, clip_masks[:, None], f"{self._config.label} {video.name}")

    def _pair(self, video: _Video, stem: str) -> tuple[Frame, Labels]:
        frame_path, mask_path = video.pairs[stem]
        if mask_path in self._in_memory:
            return self._in_memory[mask_path]
        frame, labels = read_pair(frame_path, mask_path)
        if video.listed is not None:
            unlisted = [i for i in np.flatnonzero(_areas(labels)) if i not in video.listed]
            if unlisted:
                ids = ", ".join(map(str, unlisted))
                defect = (
                    f"holds ids that meta.json does not list ({ids}); they count as background."
                )
                self._skipped.add(BadFileError(mask_path, defect))
        return frame, labels

    def _load(self) -> None:
        """Decode everything into memory; what cannot be used is recorded and left out."""
        items = [(video, stem) for video in self._videos for stem in video.pairs]
        pairs = read_all(items, lambda item: self._pair(*item))
        for (video, stem), pair in zip(items, pairs, strict=True):
            if isinstance(pair, BadFileError):
                self._skipped.add(pair)
                del video.pairs[stem]
            else:
                self._in_memory[video.pairs[stem][1]] = pair
        self._videos = [video for video in self._videos if video.pairs]


def excerpt(rng: np.random.Generator, available: int, length: int, max_speed: int) -> list[int]:
    """Draw the indices of a clip's frames at one speed; there and back if the video is too short.

    Args:
        rng: random numbers.
        available: frames of the video.
        length: frames of the clip.
        max_speed: frames of the video to one of the clip, at most.
    """
    speed = min(int(rng.integers(1, max_speed + 1)), (available - 1) // max(1, length - 1))
    if speed == 0 and length > 1:
        start, turn = int(rng.integers(available)), max(1, available - 1)
        return [abs((start + t + turn) % (2 * turn) - turn) % available for t in range(length)]
    start = int(rng.integers(available - speed * (length - 1)))
    return [start + speed * t for t in range(length)]


def _annotated(video: VideoFiles, skipped: SkippedFiles, *, complete: bool) -> _Video:
    """Return the frames of a video that have a mask.

    Args:
        video: as files.
        skipped: records the masks that should be there and are not.
        complete: every frame should have a mask, or every listed one if objects are listed.
    """
    frames = {path.stem: path for path in video.frames}
    stems = [stem for stem in frames if stem in (video.required if complete else video.masks)]
    folder = next(iter(video.masks.values())).parent
    pairs = {}
    for stem in stems:
        if stem in video.masks:
            pairs[stem] = frames[stem], video.masks[stem]
        else:
            defect = "is missing; restore it or remove its frame."
            skipped.add(BadFileError(folder / f"{stem}.png", defect))
    listed = video.listed
    if listed is not None:
        listed = {i: tuple(stem for stem in own if stem in pairs) for i, own in listed.items()}
        listed = {i: own for i, own in listed.items() if own}
    return _Video(video.name, pairs, listed, video.merge)


def _fits(videos: list[_Video], gigabytes: float) -> bool:
    """Return whether all pictures fit decoded into that much memory, by each video's first."""
    total = 0
    for video in videos:
        first, _ = next(iter(video.pairs.values()))
        total += decoded_size(first) * len(video.pairs)
        if total >= gigabytes * 1e9:
            return False
    return True


def _choose(rng: np.random.Generator, ids: list[int]) -> int:
    return ids[rng.integers(len(ids))] if len(ids) > 1 else ids[0]


def _visible(labels: Labels) -> list[int]:
    """Return the ids that are large enough to be followed."""
    return [int(i) for i in np.flatnonzero(_areas(labels) > LEAST_SHARE * labels.size)]


def _areas(labels: Labels) -> NDArray[np.int64]:
    """Return the pixels of each id, 0 for the background."""
    areas = np.bincount(labels.ravel())
    areas[0] = 0
    return areas
