"""What one true mask, given in the middle of a video, makes of the rest.

python -m benchmarks.corrections --davis DIR

The mask is given on the frame in the middle, and, in another run, where a user would see the need:
on the worst frame of the middle half.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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

    rows: list[tuple[str, ...]] = []
    results: list[dict[str, Any]] = []
    for video in layouts.davis(davis, 2016, split):
        pairs = [read_pair(path, video.masks[path.stem]) for path in video.frames]
        frames = [frame for frame, _ in pairs]
        truths = [(labels > 0).astype(np.uint8) for _, labels in pairs]
        before = scores(frames, truths, None)
        half = range(len(before) // 4, 3 * len(before) // 4)
        worst = min(half, key=lambda index: before[index]) + 1
        for place, at in (("middle", len(before) // 2), ("worst", worst)):
            after = scores(frames, truths, at)
            rest = float(np.mean(before[at:])), float(np.mean(after[at:]))
            rows.append((f"{video.name}, {place}", str(at), *(f"{j:.3f}" for j in rest)))
            results.append(
                {"video": video.name, "place": place, "at": at, "before": rest[0], "after": rest[1]}
            )
    for place in ("middle", "worst"):
        chosen = [one for one in results if one["place"] == place]
        means = [float(np.mean([one[key] for one in chosen])) for key in ("before", "after")]
        rows.append((f"mean, {place}", "", *(f"{j:.3f}" for j in means)))
    columns = ("video, frame", "mask given at", "J of the rest before", "after")
    print_table("One correction", columns, rows)
    if json:
        append_json(json, "corrections", {"videos": results, **environment()})


if __name__ == "__main__":
    run_script(main)
