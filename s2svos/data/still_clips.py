"""Clips out of stills: a picture under a moving camera, or cut-outs that move over another."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from s2svos.data.augment import ColourJitter, Deformation, Trajectory
from s2svos.data.clips import Clip
from s2svos.data.config import DataConfig
from s2svos.data.files import (
    BadFileError,
    SkippedFiles,
    decoded_size,
    foreground,
    read_all,
    read_pair,
)
from s2svos.data.layouts import StillFiles
from s2svos.data.scene import Actor, Background, Part, draw
from s2svos.data.warp import Picture, at_level, invert, pyramid_level, remap
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError

TRIES = 100  # stills drawn in a row without an object


@dataclass(frozen=True)
class Still:
    """One picture with the ids of its objects.

    Args:
        name: ``<set>/<stem>``.
        frame: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W].
        objects: ids of those that are large enough to be followed.
    """

    name: str
    frame: Frame
    labels: Labels
    objects: tuple[int, ...]


class StillClips:
    """Clips out of stills with masks.

    `DataConfig.memory` decides whether the set is kept in memory.

    Args:
        config: of the data set.
        files: its pictures.
        skipped: records files that cannot be used.

    Raises:
        UserError: no picture has an object, or one cannot be used and the set is read strictly.
    """

    def __init__(self, config: DataConfig, files: list[StillFiles], skipped: SkippedFiles) -> None:
        self._config, self._skipped, self._files = config, skipped, files
        self._in_memory: dict[str, Still] = {}
        if sum(decoded_size(one.frame) for one in files) < config.memory * 1e9:
            self._load()

    def facts(self) -> dict[str, Any]:
        """Return the checkpoint's record of the set, as JSON types: how many pictures by set."""
        sets = [one.name.partition("/")[0] for one in self._files]
        return {"stills": {name: sets.count(name) for name in sorted(set(sets))}}

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip of ``length`` frames; its object may be out of sight.

        Raises:
            BadFileError: a picture that was drawn cannot be used.
        """
        kind = self._camera if rng.random() < self._config.still.camera else self._cutouts
        return kind(rng, length, height, width)

    def _camera(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip of one picture under a moving camera."""
        still = self._picture(rng)
        alpha = _alpha(rng, still)
        background = self._background(rng, length, height, width, still)
        colour = ColourJitter(rng, self._config.colour)
        bend = rng.uniform(*self._config.still.ground_bend)
        deformation = Deformation(rng, length, height, width, bend)
        trajectory = background.trajectory
        scale = float(trajectory.scale.mean())
        (frame, level), (mask, _) = pyramid_level(still.frame, scale), pyramid_level(alpha, scale)
        frames = np.empty((length, height, width, 3), np.uint8)
        masks = np.empty((length, 1, height, width), np.uint8)
        for t, matrix in enumerate(at_level(trajectory.matrices(background.pivot), level)):
            grid = invert(matrix, deformation.grid(t))
            frames[t], masks[t, 0] = colour(remap(frame, grid)), remap(mask, grid)
        return Clip(frames, masks, f"stills {still.name}")

    def _cutouts(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """Draw a clip of cut-outs that move over another picture."""
        sampling = self._config.still
        behind = self._picture(rng)
        background = self._background(rng, length, height, width, behind)
        still = self._picture(rng)
        target = self._cut_out(rng, still)
        count = rng.integers(0, sampling.others + 1)
        cutouts = [target, *(self._cut_out(rng, self._picture(rng)) for _ in range(count))]
        if rng.random() < sampling.twin:
            cutouts.append(np.ascontiguousarray(target[:, ::-1]))
        order = rng.permutation(len(cutouts))
        parts = []
        for cutout in cutouts:
            size = height * np.exp(rng.uniform(*np.log(sampling.size)))
            trajectory = Trajectory.sample(
                rng,
                length,
                centre=(
                    width * rng.uniform(*sampling.across),
                    height * rng.uniform(*sampling.down),
                ),
                scale=size / max(cutout.shape[:2]),
                angle=rng.normal(0, sampling.angle),
                speed=sampling.speed * width * rng.uniform(*sampling.speed_factor),
            )
            parts.append(Part.moving(cutout, trajectory))
        deformation = Deformation(rng, length, height, width, rng.uniform(*sampling.bend))
        colour = ColourJitter(rng, self._config.colour)
        actors = [Actor([part], number) for number, part in enumerate(parts)]
        actors[0] = replace(actors[0], deformation=deformation)
        ordered = [actors[i] for i in order]
        frames, masks = draw(background, ordered, colour, length, height, width)
        return Clip(frames, masks, f"stills {still.name} over {behind.name}")

    def _background(
        self, rng: np.random.Generator, length: int, height: int, width: int, still: Still
    ) -> Background:
        sampling = self._config.still
        rows, columns = still.labels.shape
        trajectory = Trajectory.sample(
            rng,
            length,
            centre=(width / 2, height / 2),
            scale=max(width / columns, height / rows) * rng.uniform(*sampling.ground_scale),
            angle=rng.normal(0, sampling.ground_angle),
            speed=sampling.ground_speed * width,
        )
        pivot = (columns * rng.uniform(0.35, 0.65), rows * rng.uniform(0.35, 0.65))
        return Background(still.frame, trajectory, pivot)

    def _cut_out(self, rng: np.random.Generator, still: Still) -> Picture:
        """Cut one object out of a still: uint8 [h, w, 4], RGB and alpha, with a clear margin."""
        alpha = _alpha(rng, still)
        x, y, w, h = cv2.boundingRect(alpha)
        frame, alpha = still.frame[y : y + h, x : x + w], alpha[y : y + h, x : x + w]
        alpha = cv2.GaussianBlur(alpha, (3, 3), 0).astype(np.uint8, copy=False)
        if rng.random() < self._config.still.mirror:
            frame, alpha = frame[:, ::-1], alpha[:, ::-1]
        if rng.random() < self._config.still.recolour:
            frame = ColourJitter(rng, self._config.colour)(np.ascontiguousarray(frame))
        cutout = np.dstack([frame, alpha])
        return cv2.copyMakeBorder(cutout, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0).astype(
            np.uint8, copy=False
        )

    def _picture(self, rng: np.random.Generator) -> Still:
        """Draw a still that has an object."""
        for _ in range(TRIES):
            still = self._still(self._files[rng.integers(len(self._files))])
            if still.objects:
                return still
        raise UserError(
            f"{TRIES} stills of {self._config.root} in a row hold no object", "mend them"
        )

    def _still(self, files: StillFiles) -> Still:
        if files.name in self._in_memory:
            return self._in_memory[files.name]
        frame, labels = read_pair(files.frame, files.mask)
        areas = np.bincount(labels.ravel())
        areas[0] = 0
        objects = np.flatnonzero(areas > self._config.still.least_share * labels.size)
        return Still(files.name, frame, labels, tuple(int(i) for i in objects))

    def _load(self) -> None:
        """Decode everything into memory; what has no object or cannot be used is left out."""
        for still in read_all(self._files, self._still):
            if isinstance(still, BadFileError):
                self._skipped.add(still)
            elif still.objects:
                self._in_memory[still.name] = still
        self._files = [one for one in self._files if one.name in self._in_memory]
        if not self._files:
            raise UserError(f"{self._config.root} holds no still with an object", "name another")


def _alpha(rng: np.random.Generator, still: Still) -> Labels:
    """Return the mask of one of a still's objects, 255 on it."""
    return foreground(still.labels, still.objects[rng.integers(len(still.objects))])
