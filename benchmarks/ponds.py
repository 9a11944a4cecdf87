"""Ponds side by side with an animal to follow in each: as many objects as are asked for.

python -m benchmarks.ponds --out ponds
s2svos export run/final.pt -o my.s2s --int8 --drift-clip ponds=ponds.mask.png
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from benchmarks.report import run_script
from s2svos.sample.render import MEASURED, Story, render
from s2svos_engines.arrays import Frame, Labels

HEIGHT, WIDTH = 360, 640  # of all ponds together
# A koi, seen from near, with stains of its own, which stays in sight.
ALONE = Story(
    koi=lambda t: (-0.2 + 0.3 * t, 0.08 - 0.16 * t), turtle=lambda t: (9 + t, 9.0), pads=()
)


def main(
    out: Annotated[Path, typer.Option(help="Folder to write the frames and the mask to.")],
    objects: Annotated[int, typer.Option(min=1, max=255, help="How many ponds.")] = 10,
    frames: Annotated[int, typer.Option(min=2, help="How many frames.")] = 100,
) -> None:
    """Draw the clip as OUT/00000.png and so on, and OUT.mask.png, the ids on the first frame."""
    import cv2

    from s2svos.video.masks import davis_palette, write_mask

    out.mkdir(parents=True, exist_ok=True)
    for index, (frame, labels) in enumerate(draw_ponds(frames, objects)):
        cv2.imwrite(str(out / f"{index:05d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        if index == 0:
            write_mask(out.with_suffix(".mask.png"), labels, davis_palette())


def draw_ponds(frames: int, objects: int) -> Iterator[tuple[Frame, Labels]]:
    """Draw a koi in each of several ponds, or the turtle of a single one, with ids from 1.

    Yields:
        frame, uint8 [HEIGHT, WIDTH, 3] RGB, and ids, uint8 [HEIGHT, WIDTH]. Where the ponds do not
        fill them they are 0.
    """
    columns = math.ceil(math.sqrt(objects))
    rows = math.ceil(objects / columns)
    height, width = HEIGHT // rows, WIDTH // columns
    near = 1 if objects == 1 else 2
    story = MEASURED if objects == 1 else ALONE
    middle = np.s_[
        (near - 1) * height // 2 : (near + 1) * height // 2,
        (near - 1) * width // 2 : (near + 1) * width // 2,
    ]
    ponds = [render(frames, near * height, near * width, seed, story) for seed in range(objects)]
    followed = 2 if objects == 1 else 1
    for views in zip(*ponds, strict=True):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        for index, (picture, ids) in enumerate(views):
            y, x = height * (index // columns), width * (index % columns)
            place = np.s_[y : y + height, x : x + width]
            frame[place] = picture[middle]
            labels[place] = (index + 1) * (ids[middle] == followed)
        yield frame, labels


if __name__ == "__main__":
    run_script(main)
