"""Two-object videos with known masks, composed of DAVIS sequences whose objects cross each other.

python -m benchmarks.composed --davis DIR --out composed
s2svos evaluate --folder composed

The object of one sequence is pasted into another, in front of its object or behind it, and moves
across the frame. DAVIS 2016 itself follows one object a video, so it cannot show how well objects
are told apart.
"""

from __future__ import annotations

from itertools import permutations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.report import run_script

if TYPE_CHECKING:
    from s2svos.data.layouts import VideoFiles
    from s2svos_engines.arrays import Frame, Labels

WAY = 0.7  # of the frame's width, that the pasted object moves across in a video
SEED = 1


def main(
    davis: Annotated[Path, typer.Option(help="A folder in DAVIS 2016's layout.")],
    out: Annotated[Path, typer.Option(help="Folder to write frames/ and masks/ to.")],
    split: Annotated[str, typer.Option(help="ImageSets/2016/<split>.txt.")] = "val",
    videos: Annotated[int, typer.Option(min=1, help="How many to compose.")] = 12,
    frames: Annotated[int, typer.Option(min=2, help="Of each, at most.")] = 60,
) -> None:
    """Compose pairs of sequences, drawn with a fixed seed."""
    import numpy as np

    from s2svos import UserError
    from s2svos.data import layouts

    sequences = layouts.davis(davis, 2016, split)
    if len(sequences) < 2:
        raise UserError(f"{davis} has one sequence in {split}", "name a split of several")
    pairs = list(permutations(sequences, 2))
    chosen = np.random.default_rng(SEED).permutation(len(pairs))[:videos]
    for number, index in enumerate(chosen):
        base, other = pairs[index]
        place = "before" if number % 2 else "behind"
        name = f"{number:02d}-{other.name}-{place}-{base.name}"
        _write(out, name, base, other, in_front=bool(number % 2), limit=frames)
        typer.echo(name)


def _write(
    out: Path, name: str, base: VideoFiles, other: VideoFiles, *, in_front: bool, limit: int
) -> None:
    """Write one composed video; object 1 is the base's, 2 the other's, which moves to the right.

    Args:
        out: of ``frames/NAME`` and ``masks/NAME``.
        name: of the video.
        base, other: sequences with a mask for every frame.
        in_front: the other's object covers the base's.
        limit: frames at most.
    """
    import cv2

    from s2svos.data.files import read_pair
    from s2svos.video.masks import davis_palette, write_mask

    pairs = [
        [read_pair(path, video.masks[path.stem]) for path in video.frames[:limit]]
        for video in (base, other)
    ]
    count = min(map(len, pairs))
    folders = out / "frames" / name, out / "masks" / name
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for t, (below, above) in enumerate(zip(*pairs, strict=False)):
        shift = WAY * (t / max(1, count - 1) - 0.5)
        frame, labels = _paste(below, above, shift, in_front=in_front)
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folders[0] / f"{t:05d}.png"), picture)
        write_mask(folders[1] / f"{t:05d}.png", labels, davis_palette())


def _paste(
    base: tuple[Frame, Labels], other: tuple[Frame, Labels], shift: float, *, in_front: bool
) -> tuple[Frame, Labels]:
    """Paste the other's object into the base, moved by a share of its width.

    Args:
        base, other: frame, uint8 [H, W, 3] RGB, and labels, uint8 [H, W], each.
        shift: to the right, widths of the frame.
        in_front: of the base's object.

    Returns:
        The frame, and labels with 1 for the base's object and 2 for the other's.
    """
    import cv2
    import numpy as np

    height, width = base[1].shape
    size, matrix = (width, height), np.array([[1, 0, shift * width], [0, 1, 0]], np.float32)
    picture = cv2.resize(other[0], size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(other[1], size, interpolation=cv2.INTER_NEAREST)
    picture, mask = (cv2.warpAffine(x, matrix, size) for x in (picture, (mask > 0).astype(float)))
    own = base[1] > 0
    pasted = (mask > 0.5) & (in_front | ~own)
    # A hard edge is easy to see; half a pixel of it is mixed.
    alpha = cv2.GaussianBlur(pasted.astype(np.float32), (3, 3), 0)[..., None]
    mixed = base[0] * (1 - alpha) + picture * alpha
    labels = np.where(pasted, 2, own).astype(np.uint8)
    return mixed.astype(np.uint8), labels


if __name__ == "__main__":
    run_script(main)
