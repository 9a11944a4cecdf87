"""Validation of the averaged weights during a training: J and F, and strips of a few videos.

Scored at the network's own size over the beginnings of the videos, so the figures compare the steps
of a run; ``s2svos evaluate`` has the official ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Self

import cv2
import numpy as np
import torch
from torch import Tensor

from s2svos.data.config import DataConfig, DataKind
from s2svos.data.dataset import open_source
from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.protocol import VideoEvaluation
from s2svos.evaluation.videos import frames, object_ids, open_videos, resize, truth_at
from s2svos.network.segmenter import AnySegmenter
from s2svos.training.config import TrainConfig
from s2svos.training.seeds import SeedStream
from s2svos.video.masks import davis_palette
from s2svos.video.overlay import paint
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import Letterbox, merge_masks, object_masks

CELL_WIDTH, COLUMNS, GAP = 224, 6, 4  # of the strip: pixels, frames of a video, pixels


@dataclass(frozen=True)
class Video:
    """A video at the network's size.

    Args:
        name: of the video.
        frames: uint8 [H, W, 3], RGB.
        truths: uint8 [H, W] ids, as many; None where a frame is not annotated.
    """

    name: str
    frames: tuple[Frame, ...]
    truths: tuple[Labels | None, ...]


@dataclass(frozen=True)
class Score:
    """The scores of one video.

    Attributes:
        name: of the video.
        j, f: mean over objects and annotated frames but the first, 0 to 1.
        strip: uint8 [h, w, 3], frames from its beginning to its end with the masks on them.
    """

    name: str
    j: float
    f: float
    strip: Frame


def validation_videos(config: TrainConfig) -> list[Video]:
    """Return the videos to validate on, none of which is trained on.

    Raises:
        UserError: they cannot be read, or none has an object on its first frame.
    """
    wanted = config.validation
    if not wanted.every:
        return []
    data = wanted.data or _held_out(config)
    if data is None or data.kind is DataKind.SYNTHETIC:
        return _synthetic(config)
    size = config.network.height, config.network.width
    found = []
    for files in _files(data):
        stems, pictures = zip(*islice(frames(files), wanted.frames), strict=True)
        truths = [truth_at(files, stem, size, resized=True) for stem in stems]
        if truths[0] is not None and object_ids(truths[0]):
            shrunk = (resize(picture, size, cv2.INTER_AREA) for picture in pictures)
            found.append(Video(files.name, tuple(shrunk), tuple(truths)))
        if len(found) == wanted.clips:
            break
    if not found:
        raise UserError(
            f"No video of {data.root} has a mask on its first frame",
            "name others as validation.data, or set validation.every to 0",
        )
    return found


def _held_out(config: TrainConfig) -> DataConfig | None:
    """Return the validation split of the DAVIS trained on, if there and unused."""
    for data in config.data:
        if data.kind is DataKind.DAVIS and "val" not in data.split.split("+"):
            lists = Path(data.root or "") / "ImageSets" / str(data.year)
            if (lists / "val.txt").is_file():
                return DataConfig(data.kind, data.root, "val", data.year)
    return None


def _files(data: DataConfig) -> list[VideoFiles]:
    if data.kind not in (DataKind.DAVIS, DataKind.FOLDER):
        raise UserError(
            f"validation.data cannot be {data.kind.value}, which has no masks of whole videos",
            "name davis, folder or synthetic",
        )
    return open_videos(data.kind, Path(data.root or ""), year=data.year, split=data.split).files


def _synthetic(config: TrainConfig) -> list[Video]:
    source = open_source([DataConfig(DataKind.SYNTHETIC)])
    wanted, found = config.validation, []
    for number in range(wanted.clips):
        rng = SeedStream.VALIDATION.rng(config.seed, number)
        clip = source.sample(rng, wanted.frames, config.network.height, config.network.width)
        truths = (clip.masks[:, 0] > 127).astype(np.uint8)
        found.append(Video(f"synthetic {number}", tuple(clip.frames), tuple(truths)))
    return found


class NetworkStream:
    """A video of the network's own size, which the network follows by its graphs' methods.

    It is tracker and stream of a :class:`VideoEvaluation` in one, for one video.

    Args:
        network: in evaluation mode, on the device.
        device: of the network.
    """

    def __init__(self, network: AnySegmenter, device: torch.device) -> None:
        self._network, self._device = network, device

    def open(self, frame: Frame, labels: Labels, /) -> Self:
        """Start with the objects of the first frame, which are all."""
        size = labels.shape[0], labels.shape[1]
        self._letterbox = Letterbox.of(size, size)
        self._ids = np.array(sorted(object_ids(labels)), np.uint8)
        masks = torch.from_numpy(object_masks(labels, self._ids)).to(self._device)
        with torch.inference_mode():
            self._states = self._network.init(self._tensor(frame), masks)
        return self

    @torch.inference_mode()
    def step(self, frame: Frame, /) -> Labels:
        """Return the ids on the next frame."""
        masks, *states = self._network.step(self._tensor(frame), *self._states)
        self._states = tuple(states)
        return merge_masks(masks.cpu().numpy(), self._ids, self._letterbox)

    def add(self, frame: Frame, labels: Labels, /) -> Labels:
        """Refuse: videos of a validation have no objects that enter later."""
        raise NotImplementedError

    def _tensor(self, frame: Frame) -> Tensor:
        return torch.from_numpy(frame).to(self._device)


def score_video(network: AnySegmenter, video: Video, device: torch.device) -> Score:
    """Follow the objects of a video's first frame and score them on the others."""
    evaluation = VideoEvaluation(NetworkStream(network, device))
    first = video.truths[0]
    assert first is not None  # validation_videos leaves the others out
    labels, entering = [], object_ids(first)
    for index, (frame, truth) in enumerate(zip(video.frames, video.truths, strict=True)):
        labels.append(evaluation.step(f"{index:05d}", frame, truth, entering))
        entering = set()
    objects = evaluation.score(video.name, last=True).objects
    j = [value for one in objects for value in one.j]
    f = [value for one in objects for value in one.f]
    strip = _strip(video.frames, labels)
    return Score(video.name, float(np.mean(j or 0.0)), float(np.mean(f or 0.0)), strip)


def _strip(pictures: Sequence[Frame], labels: Sequence[Labels]) -> Frame:
    height, width = labels[0].shape
    cell = CELL_WIDTH, round(CELL_WIDTH * height / width)
    row = []
    for index in np.linspace(0, len(labels) - 1, COLUMNS).round().astype(int):
        painted = paint(pictures[index], labels[index], davis_palette())
        row.append(resize(painted, (cell[1], cell[0]), cv2.INTER_AREA))
    edged = (cv2.copyMakeBorder(one, *(GAP // 2,) * 4, cv2.BORDER_CONSTANT) for one in row)
    return np.concatenate(list(edged), axis=1).astype(np.uint8, copy=False)
