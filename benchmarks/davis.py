"""J, F and time on DAVIS 2016's sequences, or on clips that have true masks.

python -m benchmarks.davis --davis DIR --split val --size 480x854
python -m benchmarks.davis --clips DIR
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.report import append_json, describe, print_table, run_script

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sequences = Iterator[tuple[str, Iterable[NDArray[np.uint8]], Iterable[NDArray[np.uint8]]]]


def main(
    davis: Annotated[Path | None, typer.Option(help="A folder in DAVIS 2016's layout.")] = None,
    clips: Annotated[
        Path | None, typer.Option(help="A folder of NAME.mp4 with true masks NAME/00000.png ...")
    ] = None,
    split: Annotated[str, typer.Option(help="ImageSets/2016/<split>.txt.")] = "val",
    size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH to score at; default: each as it is.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or auto.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Score a bundle by DAVIS 2016's protocol: all foreground is one object."""
    import s2svos
    from s2svos.evaluation.davis import evaluate_sequence
    from s2svos_engines.tracker import Tracker

    if (davis is None) == (clips is None):
        raise typer.BadParameter("give either --davis or --clips", param_hint="--davis")
    target = _parse(size)
    sequences = _davis(davis, split) if davis else _clips(clips or Path())
    tracker = Tracker.load(bundle or s2svos.default_bundle(), engine=engine)
    scores = []
    for name, frames, truths in sequences:
        score = evaluate_sequence(tracker, name, frames, truths, size=target)
        typer.echo(f"{name}: J {score.j:.3f}, F {score.f:.3f}", err=True)
        scores.append(score)

    mean_j = sum(score.j for score in scores) / len(scores)
    mean_f = sum(score.f for score in scores) / len(scores)
    mean_ms = 1000 * sum(s.seconds for s in scores) / sum(s.frames - 1 for s in scores)
    rows = [
        [s.name, str(s.frames), f"{s.j:.3f}", f"{s.f:.3f}", f"{s.milliseconds:.1f}"] for s in scores
    ]
    total = str(sum(s.frames for s in scores))
    rows.append(["mean", total, f"{mean_j:.3f}", f"{mean_f:.3f}", f"{mean_ms:.1f}"])
    title = f"DAVIS 2016 protocol, {tracker.engine_name}, scored at {size or 'native size'}"
    print_table(title, ["sequence", "frames", "J", "F", "ms/frame"], rows)
    if json:
        results = {
            **describe(tracker),
            "data": f"DAVIS 2016 {split}" if davis else "clips",
            "size": target,
            "j": mean_j,
            "f": mean_f,
            "milliseconds": mean_ms,
            "sequences": [asdict(score) for score in scores],
        }
        append_json(json, "davis", results)


def _davis(root: Path, split: str) -> Sequences:
    from s2svos import UserError
    from s2svos.data.sources import davis_paths, davis_split, read_frame, read_mask

    names = davis_split(root, split)
    if not names:
        raise UserError(f"The split {split} of {root} lists no sequence; choose another.")
    for name in names:
        frames, masks = davis_paths(root, name)
        yield name, map(read_frame, frames), map(read_mask, masks)


def _clips(root: Path) -> Sequences:
    from s2svos import UserError
    from s2svos.data.sources import read_mask
    from s2svos.video.read import Video

    videos = [path for path in sorted(root.glob("*.mp4")) if path.with_suffix("").is_dir()]
    if not videos:
        raise UserError(f"{root} holds no NAME.mp4 with a folder NAME of masks; name another.")
    for path in videos:
        frames = (frame for _, frame in Video(path))
        yield path.stem, frames, map(read_mask, sorted(path.with_suffix("").glob("*.png")))


def _parse(size: str | None) -> tuple[int, int] | None:
    if size is None:
        return None
    height, _, width = size.partition("x")
    if not (height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise typer.BadParameter(
            f"{size!r} is not HEIGHTxWIDTH, as in 480x854", param_hint="--size"
        )
    return int(height), int(width)


if __name__ == "__main__":
    run_script(main)
