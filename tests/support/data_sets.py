"""Small data sets on disk, drawn by the demo's renderer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from s2svos.data.layouts import VideoFiles
from s2svos.sample.render import render
from s2svos.video.masks import davis_palette, write_mask

HEIGHT, WIDTH = 120, 208
Clip = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def drawn(length: int, seed: int = 0) -> Clip:
    """A koi (1) and a turtle (2), both visible from the first frame on."""
    return list(render(length=length, height=HEIGHT, width=WIDTH, seed=seed))


def write_frames(folder: Path, pictures: list[NDArray[np.uint8]], step: int = 1) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(folder / f"{step * index:05d}.jpg", quality=92)


def write_masks(folder: Path, masks: dict[str, NDArray[np.uint8]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem, mask in masks.items():
        write_mask(folder / f"{stem}.png", mask, davis_palette())


def davis_2017(root: Path, clips: dict[str, Clip]) -> Path:
    for name, clip in clips.items():
        write_frames(root / "JPEGImages" / "480p" / name, [frame for frame, _ in clip])
        masks = {f"{index:05d}": ids for index, (_, ids) in enumerate(clip)}
        write_masks(root / "Annotations" / "480p" / name, masks)
    for year in ("2016", "2017"):
        (root / "ImageSets" / year).mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / year / "val.txt").write_text("\n".join(clips))
    return root


def youtube_vos(root: Path, clips: dict[str, Clip], *, late: int) -> Path:
    """``valid``: every frame has a number five higher than the last, the koi enters ``late``.

    The mask on the frame where it enters shows it alone, and the last frame is not required.
    """
    videos = {}
    for name, clip in clips.items():
        stems = [f"{5 * index:05d}" for index in range(len(clip))]
        turtle = np.where(clip[0][1] == 2, 2, 0).astype(np.uint8)
        koi = np.where(clip[late][1] == 1, 1, 0).astype(np.uint8)
        write_frames(root / "valid" / "JPEGImages" / name, [frame for frame, _ in clip], step=5)
        write_masks(root / "valid" / "Annotations" / name, {stems[0]: turtle, stems[late]: koi})
        objects = {"2": stems[:-1], "1": stems[late:-1]}
        videos[name] = {
            "objects": {i: {"category": "x", "frames": frames} for i, frames in objects.items()}
        }
    (root / "valid" / "meta.json").write_text(json.dumps({"videos": videos}))
    return root


def video_files(
    root: Path,
    masks: dict[str, NDArray[np.uint8]],
    frames: int,
    *,
    objects: dict[int, str] | None = None,
    required: tuple[str, ...] | None = None,
    merge: bool = False,
    size: tuple[int, int] = (48, 64),
) -> VideoFiles:
    """A video of grey frames, each as bright as its index, with the given masks."""
    write_frames(
        root / "frames", [np.full((*size, 3), 10 * index, np.uint8) for index in range(frames)]
    )
    write_masks(root / "masks", masks)
    paths = tuple(sorted((root / "frames").iterdir()))
    return VideoFiles(
        "x",
        paths,
        {stem: root / "masks" / f"{stem}.png" for stem in masks},
        objects,
        tuple(path.stem for path in paths) if required is None else required,
        merge,
    )
