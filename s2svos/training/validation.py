"""Judges the averaged weights while a training runs: J and F of a few videos, and how they look.

Scored at the network's own size over the beginnings of the videos, so the figures compare the steps
of a run; ``s2svos evaluate`` has the official ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from s2svos.data import layouts
from s2svos.data.config import DataConfig, DataKind
from s2svos.data.dataset import open_source
from s2svos.evaluation.metrics import contour_accuracy, region_similarity
from s2svos.evaluation.videos import frames, object_ids, resize, truth_at
from s2svos.network.segmenter import AnySegmenter
from s2svos.training.config import TrainConfig
from s2svos.training.seeds import SeedStream
from s2svos.video.masks import davis_palette
from s2svos.video.overlay import paint
from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

Image = NDArray[np.uint8]  # [H, W, 3] RGB, or [H, W] ids

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
    frames: tuple[Image, ...]
    truths: tuple[Image | None, ...]


@dataclass(frozen=True)
class Score:
    """How one video was followed.

    Attributes:
        name: of the video.
        j, f: mean over objects and annotated frames but the first, 0 to 1.
        strip: uint8 [h, w, 3], frames from its beginning to its end with the masks on them.
    """

    name: str
    j: float
    f: float
    strip: Image


def validation_videos(config: TrainConfig) -> list[Video]:
    """The videos to score_video by, none of which is trained on.

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
    """The validation split of the DAVIS that is trained on, where it is there and not used."""
    for data in config.data:
        if data.kind is DataKind.DAVIS and "val" not in data.split.split("+"):
            lists = Path(data.root or "") / "ImageSets" / str(data.year)
            if (lists / "val.txt").is_file():
                return DataConfig(data.kind, data.root, "val", data.year)
    return None


def _files(data: DataConfig) -> list[layouts.VideoFiles]:
    root = Path(data.root or "")
    if data.kind is DataKind.DAVIS:
        return layouts.davis(root, data.year, data.split)
    if data.kind is DataKind.FOLDER:
        return layouts.folder(root)
    raise UserError(
        f"validation.data cannot be {data.kind.value}, which has no masks of whole videos",
        "name davis, folder or synthetic",
    )


def _synthetic(config: TrainConfig) -> list[Video]:
    source = open_source([DataConfig(DataKind.SYNTHETIC)])
    wanted, found = config.validation, []
    for number in range(wanted.clips):
        rng = SeedStream.VALIDATION.rng(config.seed, number)
        clip = source.sample(rng, wanted.frames, config.network.height, config.network.width)
        truths = (clip.masks > 127).astype(np.uint8)
        found.append(Video(f"synthetic {number}", tuple(clip.frames), tuple(truths)))
    return found


def score_video(network: AnySegmenter, video: Video, device: torch.device) -> Score:
    """Follows the objects of a video's first frame and scores the others."""
    labels = _follow(network, video, device)
    scores = [
        (region_similarity(found == i, truth == i), contour_accuracy(found == i, truth == i))
        for found, truth in zip(labels[1:], video.truths[1:], strict=True)
        if truth is not None
        for i in object_ids(_first(video))
    ]
    j, f = np.mean(scores, axis=0) if scores else (0.0, 0.0)
    return Score(video.name, float(j), float(f), _strip(video.frames, labels))


@torch.inference_mode()
def _follow(network: AnySegmenter, video: Video, device: torch.device) -> list[Image]:
    """Object ids of every frame; uint8 [H, W] each."""
    first = _first(video)
    ids = np.array(sorted(object_ids(first)), np.uint8)
    masks = torch.from_numpy(first[None] == ids[:, None, None])[:, None].float().to(device)
    labels, state = [first], None
    for frame in video.frames:
        planes = torch.from_numpy(frame).to(device, network.dtype)[None].permute(0, 3, 1, 2)
        features = network.features(planes)
        if state is None:
            state = network.start(features, masks)
            continue
        logits, state = network.advance(features, state)
        labels.append(_labels(logits, first.shape, ids))
    return labels


def _labels(logits: Tensor, size: tuple[int, ...], ids: NDArray[np.uint8]) -> Image:
    """The most probable object of every pixel, as in a tracker."""
    best = F.interpolate(logits.float(), size, mode="bilinear")[:, 0].max(0)
    chosen = ids[best.indices.cpu().numpy()]
    return np.where(best.values.cpu().numpy() > 0, chosen, np.uint8(0))


def _first(video: Video) -> Image:
    first = video.truths[0]
    assert first is not None  # validation_videos leaves the others out
    return first


def _strip(pictures: Sequence[Image], labels: Sequence[Image]) -> Image:
    height, width = labels[0].shape
    cell = CELL_WIDTH, round(CELL_WIDTH * height / width)
    row = []
    for index in np.linspace(0, len(labels) - 1, COLUMNS).round().astype(int):
        painted = paint(pictures[index], labels[index], davis_palette())
        row.append(resize(painted, (cell[1], cell[0]), cv2.INTER_AREA))
    edged = (cv2.copyMakeBorder(one, *(GAP // 2,) * 4, cv2.BORDER_CONSTANT) for one in row)
    return np.concatenate(list(edged), axis=1).astype(np.uint8, copy=False)


def page_of(scores: Sequence[Score]) -> Image:
    """The strips of several videos, one below the other; uint8 [H, W, 3]."""
    return np.concatenate([score.strip for score in scores])


def write_page(page: Image, path: Path) -> None:
    """Writes a picture as PNG, whole or not at all; makes its folder."""
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, cv2.imencode(".png", page[..., ::-1])[1].tobytes())
