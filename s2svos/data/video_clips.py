"""Clips out of videos: random speed, direction, start, and one camera motion."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from s2svos.data.augment import Colour, Walk
from s2svos.data.clips import Clip
from s2svos.data.config import DataConfig, DataKind
from s2svos.data.files import BadFile, Faults, Frame, Mask, decoded_size, foreground, read_pair
from s2svos.data.layouts import VideoFiles
from s2svos.data.warp import for_halved, halved, warp
from s2svos_engines.errors import UserError

LEAST_SHARE = 0.002  # of the first frame that an object must cover to be followed
SPEED, SPARSE_SPEED = 6, 2  # fastest clips; sparse: where every fifth frame is annotated


@dataclass(frozen=True)
class _Video:
    """The annotated frames of a video, with their masks, by stem and in order."""

    name: str
    pairs: dict[str, tuple[Path, Path]]
    listed: dict[int, tuple[str, ...]] | None
    merge: bool


class VideoClips:
    """Excerpts of videos at random speed, direction, scale, place and colour.

    Each clip follows one object. What lies in memory is chosen by `DataConfig.memory`.

    Args:
        config: of the data set.
        videos: its files.
        faults: where files that cannot be used are noted.

    Raises:
        UserError: no frame can be used, or one cannot and the set is read strictly.
    """

    def __init__(self, config: DataConfig, videos: list[VideoFiles], faults: Faults) -> None:
        self.config, self.faults = config, faults
        usual = SPARSE_SPEED if config.kind is DataKind.YOUTUBE_VOS else SPEED
        self.max_speed = config.video.max_speed or usual
        complete = config.kind is not DataKind.FOLDER  # others may be annotated here and there
        found = [_annotated(video, faults, complete=complete) for video in videos]
        self.videos = [video for video in found if video.pairs]
        self._held: dict[Path, tuple[Frame, Mask]] = {}
        if _fits(self.videos, config.memory):
            self._hold()
        if not self.videos:
            raise UserError(
                f"No frame with a mask in {config.root} can be used", "restore the data"
            )

    def facts(self) -> dict[str, Any]:
        """What a checkpoint tells of the set, as JSON types."""
        return {
            "videos": [video.name for video in self.videos],
            "frames": sum(len(video.pairs) for video in self.videos),
        }

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip of ``length`` frames; it may be one in which the object cannot be seen.

        Raises:
            BadFile: a frame or mask of the excerpt cannot be used.
        """
        number = self.config.video
        video = self.videos[rng.integers(len(self.videos))]
        stems, wanted = list(video.pairs), None
        if video.listed is not None:
            wanted = _one(rng, list(video.listed))
            stems = [stem for stem in video.listed[wanted] if stem in video.pairs]
        chosen = [stems[i] for i in excerpt(rng, len(stems), length, self.max_speed)]
        if rng.random() < number.reverse:
            chosen.reverse()

        pairs = [self._pair(video, stem) for stem in chosen]
        first = pairs[0][1]
        if wanted is None and not video.merge:
            wanted = _one(rng, _visible(first) or [1])
        masks = [foreground(mask, wanted) for _, mask in pairs]
        rows, columns = first.shape
        middle = np.array([columns / 2, rows / 2])
        moments = cv2.moments(masks[0], binaryImage=True)
        if moments["m00"]:
            centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
            middle += rng.uniform(*number.towards_object) * (centre - middle)
        walk = Walk.sample(
            rng,
            length,
            centre=(width * rng.uniform(*number.centre), height * rng.uniform(*number.centre)),
            scale=max(width / columns, height / rows) * np.exp(rng.uniform(*number.log_scale)),
            angle=rng.normal(0, number.angle),
            speed=number.camera_speed * width * (rng.random() < number.moving),
        )
        mirror = bool(rng.random() < number.mirror)
        colour = Colour(rng, self.config.colour)

        frames = np.empty((length, height, width, 3), np.uint8)
        seen = np.empty((length, height, width), np.uint8)
        scale = float(walk.scale.mean())
        maps = walk.matrices((middle[0], middle[1]), mirror=mirror)
        for t, ((frame, _), mask) in enumerate(zip(pairs, masks, strict=True)):
            small, times = halved(frame, scale)
            matrix = for_halved(maps[t], times)
            frames[t] = colour(warp(small, matrix, height, width))
            seen[t] = warp(halved(mask, scale)[0], matrix, height, width)
        return Clip(frames, seen, f"{self.config.label} {video.name}")

    def _pair(self, video: _Video, stem: str) -> tuple[Frame, Mask]:
        frame_path, mask_path = video.pairs[stem]
        if mask_path in self._held:
            return self._held[mask_path]
        frame, mask = read_pair(frame_path, mask_path)
        unlisted = [] if video.listed is None else [i for i in _ids(mask) if i not in video.listed]
        if unlisted:
            ids = ", ".join(map(str, unlisted))
            problem = f"holds ids that meta.json does not list ({ids}); they count as background."
            self.faults.note(BadFile(mask_path, problem))
        return frame, mask

    def _hold(self) -> None:
        """Decodes everything; what cannot be used is noted and left out."""
        wanted = [(video, stem) for video in self.videos for stem in video.pairs]

        def read(item: tuple[_Video, str]) -> tuple[Frame, Mask] | BadFile:
            try:
                return self._pair(*item)
            except BadFile as fault:
                return fault

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for (video, stem), pair in zip(wanted, pool.map(read, wanted), strict=True):
                if isinstance(pair, BadFile):
                    self.faults.note(pair)
                    del video.pairs[stem]
                else:
                    self._held[video.pairs[stem][1]] = pair
        self.videos = [video for video in self.videos if video.pairs]


def excerpt(rng: np.random.Generator, available: int, length: int, max_speed: int) -> list[int]:
    """Indices of a clip's frames at one speed; there and back where the video is too short."""
    speed = min(int(rng.integers(1, max_speed + 1)), (available - 1) // max(1, length - 1))
    if speed == 0 and length > 1:
        start, turn = int(rng.integers(available)), max(1, available - 1)
        return [abs((start + t + turn) % (2 * turn) - turn) % available for t in range(length)]
    start = int(rng.integers(available - speed * (length - 1)))
    return [start + speed * t for t in range(length)]


def _annotated(video: VideoFiles, faults: Faults, *, complete: bool) -> _Video:
    """The frames of a video that can be used; those that should have a mask and do not are noted.

    Args:
        video: as files.
        faults: where they are noted.
        complete: every frame should have a mask; where objects are listed, every listed frame.
    """
    frames = {path.stem: path for path in video.frames}
    stems = [stem for stem in frames if stem in (video.required if complete else video.masks)]
    folder = next(iter(video.masks.values())).parent
    pairs = {}
    for stem in stems:
        if stem in video.masks:
            pairs[stem] = frames[stem], video.masks[stem]
        else:
            problem = "is missing; restore it or remove its frame."
            faults.note(BadFile(folder / f"{stem}.png", problem))
    listed = video.listed
    if listed is not None:
        listed = {i: tuple(stem for stem in own if stem in pairs) for i, own in listed.items()}
        listed = {i: own for i, own in listed.items() if own}
    return _Video(video.name, pairs, listed, video.merge)


def _fits(videos: list[_Video], gigabytes: float) -> bool:
    """Whether all pictures together, decoded, take no more than that; by each video's first."""
    total = 0
    for video in videos:
        first, _ = next(iter(video.pairs.values()))
        total += decoded_size(first) * len(video.pairs)
        if total >= gigabytes * 1e9:
            return False
    return True


def _one(rng: np.random.Generator, ids: list[int]) -> int:
    return ids[rng.integers(len(ids))] if len(ids) > 1 else ids[0]


def _ids(mask: Mask) -> list[int]:
    return [int(i) for i in np.flatnonzero(np.bincount(mask.ravel())) if i]


def _visible(mask: Mask) -> list[int]:
    """Ids that are large enough to be followed."""
    counts = np.bincount(mask.ravel())
    return [int(i) for i in np.flatnonzero(counts > LEAST_SHARE * mask.size) if i]
