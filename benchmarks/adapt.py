"""Gain and cost of online learning (s2svos infer --adapt) by DAVIS 2016's protocol.

python -m benchmarks.adapt --davis DIR --split val --size 854x480
Every sequence is followed with the bundle's own weights and with those tuned to its first frame.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.report import append_json, describe, print_table, run_script
from s2svos.adapt.config import AdaptConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from s2svos.adapt.config import Adaptation
    from s2svos_engines.arrays import Frame, Labels
    from s2svos_engines.tracker import Stream, Tracker


class AdaptingTracker:
    """A tracker that is tuned to every first frame anew.

    Attributes:
        results: of each tuning.
    """

    def __init__(self, tracker: Tracker, config: AdaptConfig, threads: int | None) -> None:
        self._tracker, self._config, self._threads = tracker, config, threads
        self.results: list[Adaptation] = []

    def open(self, frame: Frame, labels: Labels, /) -> Stream:
        """Tune the network, then open a stream with the objects."""
        from s2svos.adapt.tune import adapt

        tuned, result = adapt(
            self._tracker, frame, labels, config=self._config, threads=self._threads
        )
        self.results.append(result)
        return tuned.open(frame, labels)


def main(
    davis: Annotated[Path, typer.Option(help="A folder in DAVIS 2016's layout.")],
    split: Annotated[str, typer.Option(help="ImageSets/2016/<split>.txt.")] = "val",
    sequence: Annotated[
        list[str] | None, typer.Option(help="Only this one; may be repeated.")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH to score at; default: each as it is.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of tuning.")] = AdaptConfig.steps,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = AdaptConfig.learning_rate,
    bundle: Annotated[Path | None, typer.Option(help="Default: the one that ships.")] = None,
    engine: Annotated[str, typer.Option(help="openvino, onnxruntime or auto.")] = "auto",
    window: Annotated[str, typer.Option(help="auto or off.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="Default: one a core.")] = None,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Score a bundle before and after tuning to each sequence's first frame."""
    import numpy as np

    import s2svos
    from s2svos.commands.options import parse_frame_size
    from s2svos.data.layouts import davis as davis_videos
    from s2svos.evaluation.protocol import evaluate_video
    from s2svos.extras import needs

    with needs("train"):
        import s2svos.adapt.tune
    frame_size = parse_frame_size(size, example="854x480")
    target = frame_size and frame_size.shape
    videos = davis_videos(davis, 2016, split)
    if sequence:
        videos = [video for video in videos if video.name in sequence]
    if not videos:
        raise s2svos.UserError(f"The split {split} of {davis} lacks {sequence}", "choose another")
    tracker = s2svos.load(bundle, engine=engine, threads=threads, window=window)
    config = AdaptConfig(steps=steps, learning_rate=rate)
    adapting = AdaptingTracker(tracker, config, threads)
    rows: list[list[str]] = []
    results: list[dict[str, Any]] = []
    for video in videos:
        own = evaluate_video(tracker, video, size=target)
        tuned = evaluate_video(adapting, video, size=target)
        j, f = (own.j.mean, tuned.j.mean), (own.f.mean, tuned.f.mean)
        seconds = adapting.results[-1].seconds
        rows.append([video.name, *_figures(j, f, seconds)])
        typer.echo(f"{video.name}: J {j[0]:.3f}, tuned {j[1]:.3f}", err=True)
        results.append({"name": video.name, "j": j, "f": f, **asdict(adapting.results[-1])})

    mean_j, mean_f = (tuple(np.mean([r[key] for r in results], axis=0)) for key in ("j", "f"))
    mean_seconds = float(np.mean([result["seconds"] for result in results]))
    rows.append(["mean", *_figures(mean_j, mean_f, mean_seconds)])
    title = f"DAVIS 2016 protocol, scored at {size or 'native size'}, {steps} steps of {rate:g}"
    print_table(title, ["sequence", "J", "tuned", "F", "tuned", "seconds"], rows)
    if json:
        facts = {"data": f"DAVIS 2016 {split}", "size": target, "config": asdict(config)}
        means = {"j": mean_j, "f": mean_f, "seconds": mean_seconds}
        append_json(json, "adapt", {**describe(tracker), **facts, **means, "sequences": results})


def _figures(j: Sequence[float], f: Sequence[float], seconds: float) -> list[str]:
    return [*(f"{value:.3f}" for value in (*j, *f)), f"{seconds:.1f}"]


if __name__ == "__main__":
    run_script(main)
