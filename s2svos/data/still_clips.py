"""Stills made clips: a whole picture under a moving camera, or cut-outs moving over another."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from s2svos.data.augment import Colour, Walk, Wobble
from s2svos.data.clips import Clip
from s2svos.data.config import DataConfig
from s2svos.data.files import BadFile, Faults, Frame, Mask, decoded_size, foreground, read_pair
from s2svos.data.layouts import StillFiles
from s2svos.data.scene import Actor, Ground, Part, draw
from s2svos.data.warp import Picture, bent, for_halved, halved, taken_back
from s2svos_engines.errors import UserError

TRIES = 100  # stills drawn in a row without an object


@dataclass(frozen=True)
class Still:
    """One picture with the ids of its objects."""

    name: str
    frame: Frame
    mask: Mask
    objects: tuple[int, ...]


class StillClips:
    """Clips out of stills with masks.

    What lies in memory is chosen by `DataConfig.memory`.

    Args:
        config: of the data set.
        files: its pictures.
        faults: where files that cannot be used are noted.

    Raises:
        UserError: no picture has an object, or one cannot be used and the set is read strictly.
    """

    def __init__(self, config: DataConfig, files: list[StillFiles], faults: Faults) -> None:
        self.config, self.faults, self.files = config, faults, files
        self._held: dict[str, Still] = {}
        if sum(decoded_size(one.frame) for one in files) < config.memory * 1e9:
            self._hold()

    def facts(self) -> dict[str, Any]:
        """What a checkpoint tells of the set, as JSON types: pictures by set."""
        sets = [one.name.partition("/")[0] for one in self.files]
        return {"stills": {name: sets.count(name) for name in sorted(set(sets))}}

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip of ``length`` frames; it may be one in which the object cannot be seen.

        Raises:
            BadFile: a picture that was drawn cannot be used.
        """
        kind = self._camera if rng.random() < self.config.still.camera else self._cutouts
        return kind(rng, length, height, width)

    def _camera(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        number = self.config.still
        still = self._picture(rng)
        alpha = _alpha(rng, still)
        ground = self._ground(rng, length, height, width, still)
        colour = Colour(rng, self.config.colour)
        bend = Wobble(rng, length, height, width, rng.uniform(*number.ground_bend))
        scale = float(ground.walk.scale.mean())
        (frame, times), (mask, _) = halved(still.frame, scale), halved(alpha, scale)
        frames = np.empty((length, height, width, 3), np.uint8)
        masks = np.empty((length, height, width), np.uint8)
        for t, matrix in enumerate(for_halved(ground.walk.matrices(ground.pivot), times)):
            places = taken_back(matrix, bend.places(t))
            frames[t], masks[t] = colour(bent(frame, places)), bent(mask, places)
        return Clip(frames, masks, f"stills {still.name}")

    def _cutouts(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        number = self.config.still
        behind = self._picture(rng)
        ground = self._ground(rng, length, height, width, behind)
        still = self._picture(rng)
        target = self._cut_out(rng, still)
        count = rng.integers(0, number.others + 1)
        cutouts = [target, *(self._cut_out(rng, self._picture(rng)) for _ in range(count))]
        if rng.random() < number.twin:
            cutouts.append(np.ascontiguousarray(target[:, ::-1]))
        order = rng.permutation(len(cutouts))
        parts = []
        for cutout in cutouts:
            size = height * np.exp(rng.uniform(*np.log(number.size)))
            walk = Walk.sample(
                rng,
                length,
                centre=(width * rng.uniform(*number.across), height * rng.uniform(*number.down)),
                scale=size / max(cutout.shape[:2]),
                angle=rng.normal(0, number.angle),
                speed=number.speed * width * rng.uniform(*number.speed_factor),
            )
            parts.append(Part.moving(cutout, walk))
        bend = Wobble(rng, length, height, width, rng.uniform(*number.bend))
        colour = Colour(rng, self.config.colour)
        actors = [Actor([part]) for part in parts]
        actors[0] = Actor([parts[0]], target=True, wobble=bend)
        layers = [actors[i] for i in order]
        frames, masks = draw(ground, layers, colour, length, height, width)
        return Clip(frames, masks, f"stills {still.name} over {behind.name}")

    def _ground(
        self, rng: np.random.Generator, length: int, height: int, width: int, still: Still
    ) -> Ground:
        number = self.config.still
        rows, columns = still.mask.shape
        walk = Walk.sample(
            rng,
            length,
            centre=(width / 2, height / 2),
            scale=max(width / columns, height / rows) * rng.uniform(*number.ground_scale),
            angle=rng.normal(0, number.ground_angle),
            speed=number.ground_speed * width,
        )
        pivot = (columns * rng.uniform(0.35, 0.65), rows * rng.uniform(0.35, 0.65))
        return Ground(still.frame, walk, pivot)

    def _cut_out(self, rng: np.random.Generator, still: Still) -> Picture:
        """One object of a still: uint8 [h, w, 4], RGB and alpha, with a clear margin."""
        alpha = _alpha(rng, still)
        x, y, w, h = cv2.boundingRect(alpha)
        frame, alpha = still.frame[y : y + h, x : x + w], alpha[y : y + h, x : x + w]
        alpha = cv2.GaussianBlur(alpha, (3, 3), 0).astype(np.uint8, copy=False)
        if rng.random() < self.config.still.mirror:
            frame, alpha = frame[:, ::-1], alpha[:, ::-1]
        if rng.random() < self.config.still.recolour:
            frame = Colour(rng, self.config.colour)(np.ascontiguousarray(frame))
        cutout = np.dstack([frame, alpha])
        return cv2.copyMakeBorder(cutout, 2, 2, 2, 2, cv2.BORDER_CONSTANT, value=0).astype(
            np.uint8, copy=False
        )

    def _picture(self, rng: np.random.Generator) -> Still:
        for _ in range(TRIES):
            still = self._still(self.files[rng.integers(len(self.files))])
            if still.objects:
                return still
        raise UserError(
            f"{TRIES} stills of {self.config.root} in a row hold no object", "mend them"
        )

    def _still(self, files: StillFiles) -> Still:
        if files.name in self._held:
            return self._held[files.name]
        frame, mask = read_pair(files.frame, files.mask)
        counts = np.bincount(mask.ravel(), minlength=1)
        counts[0] = 0
        objects = np.flatnonzero(counts > self.config.still.least_share * mask.size)
        return Still(files.name, frame, mask, tuple(int(i) for i in objects))

    def _hold(self) -> None:
        """Decodes everything; what has no object or cannot be used is left out."""

        def read(files: StillFiles) -> Still | BadFile:
            try:
                return self._still(files)
            except BadFile as fault:
                return fault

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for still in pool.map(read, self.files):
                if isinstance(still, BadFile):
                    self.faults.note(still)
                elif still.objects:
                    self._held[still.name] = still
        self.files = [one for one in self.files if one.name in self._held]
        if not self.files:
            raise UserError(f"{self.config.root} holds no still with an object", "name another")


def _alpha(rng: np.random.Generator, still: Still) -> Mask:
    chosen = still.objects[rng.integers(len(still.objects))]
    return foreground(still.mask, chosen)
