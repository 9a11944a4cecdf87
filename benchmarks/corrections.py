"""What one true mask, given in the middle of a video, makes of the rest.

python -m benchmarks.corrections --davis DIR

The mask is given where a user would see the need: on the worst frame of the video's middle half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import append_json, print_table, run_script


def main(
    davis: Annotated[Path, typer.Option(help="A folder in DAVIS 2016's layout.")],
    split: Annotated[str, typer.Option(help="ImageSets/2016/<split>.txt.")] = "val",
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Follow each video with the first mask alone, and once more with one correction."""
    import numpy as np

    import s2svos
    from s2svos.data import layouts
    from s2svos.data.files import read_pair
    from s2svos.environment import environment
    from s2svos.evaluation.metrics import region_similarity
    from s2svos_engines.arrays import Frame, Labels

    tracker = s2svos.load(window="auto")

    def scores(frames: list[Frame], truths: list[Labels], at: int | None) -> list[float]:
        """Return J of each frame but the first; ``at`` has the true mask given."""
        stream, found = tracker.open(frames[0], truths[0]), []
        for index, (frame, truth) in enumerate(zip(frames[1:], truths[1:], strict=True), 1):
            labels = stream.step(frame)
            found.append(float(region_similarity(labels > 0, truth > 0)))
            if index == at and truth.any():
                stream.correct(frame, truth)
        return found

    rows, results = [], []
    for video in layouts.davis(davis, 2016, split):
        pairs = [read_pair(path, video.masks[path.stem]) for path in video.frames]
        frames = [frame for frame, _ in pairs]
        truths = [(labels > 0).astype(np.uint8) for _, labels in pairs]
        before = scores(frames, truths, None)
        middle = range(len(before) // 4, 3 * len(before) // 4)
        at = min(middle, key=lambda index: before[index]) + 1
        after = scores(frames, truths, at)
        rest = float(np.mean(before[at:])), float(np.mean(after[at:]))
        rows.append((video.name, str(at), str(len(frames)), f"{rest[0]:.3f}", f"{rest[1]:.3f}"))
        results.append({"video": video.name, "at": at, "before": rest[0], "after": rest[1]})
    means = [float(np.mean([one[key] for one in results])) for key in ("before", "after")]
    rows.append(("mean", "", "", f"{means[0]:.3f}", f"{means[1]:.3f}"))
    columns = ("video", "mask given at", "frames", "J of the rest before", "after")
    print_table("One correction", columns, rows)
    if json:
        append_json(json, "corrections", {"videos": results, **environment()})


if __name__ == "__main__":
    run_script(main)
