"""``s2svos export``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2svos.commands.options import parse_frame_size

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from s2svos.video.reader import Video
    from s2svos_export.calibrate import Clip


class PlanLibrary(StrEnum):
    """Compilers of plans."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


def export(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="Checkpoint that s2svos train wrote, or a bundle to add plans to."),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Bundle to write, NAME.s2s.")
    ] = None,
    fp32: Annotated[bool, typer.Option(help="Graphs in single precision.")] = True,
    fp16: Annotated[bool, typer.Option("--fp16", help="Graphs in half precision.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Graphs with int8 convolutions.")] = False,
    size: Annotated[
        str | None, typer.Option(help="Frame size WIDTHxHEIGHT; default: the checkpoint's.")
    ] = None,
    max_objects: Annotated[
        int | None,
        typer.Option(
            min=1, max=255, help="The most objects of a stream; default: 255, and 8 in plans."
        ),
    ] = None,
    frames_per_call: Annotated[
        int,
        typer.Option(
            min=1, max=64, metavar="T", help="Add a step graph of T frames, for video files."
        ),
    ] = 1,
    batch: Annotated[
        bool, typer.Option("--batch", help="Add a graph of many streams, for Tracker.step_many.")
    ] = False,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIDEO=MASK",
            help="Video and first mask by which int8 is set, several times for several; default: "
            "the clip of s2svos demo. Real ones are better.",
        ),
    ] = None,
    drift_clip: Annotated[
        str | None,
        typer.Option(
            metavar="VIDEO=MASK",
            help="On which the graphs are compared with PyTorch; default: the clip of s2svos demo.",
        ),
    ] = None,
    drift_frames: Annotated[int, typer.Option(min=10, help="How many of its frames.")] = 300,
    drift_budget: Annotated[
        float, typer.Option(min=0, max=1, help="Least mean IoU with PyTorch in fp32.")
    ] = 0.98,
    accept_drift: Annotated[
        bool, typer.Option("--accept-drift", help="Write the bundle whatever the IoU.")
    ] = False,
    plan: Annotated[
        list[PlanLibrary] | None, typer.Option(help="Add TensorRT plans of all graphs.")
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write a Triton model repository."),
    ] = None,
) -> None:
    """Turn a checkpoint into a bundle of ONNX graphs, compared with PyTorch frame by frame."""
    from s2svos import UserError
    from s2svos.commands.options import needs

    if checkpoint.suffix == ".s2s":
        if not plan:
            raise typer.BadParameter("name the plans to add to the bundle", param_hint="--plan")
        _add_plans(checkpoint, plan, max_objects=max_objects)
        return
    frame_size = parse_frame_size(size, example="448x256")
    parsed = frame_size and frame_size.shape
    if out is None or out.suffix != ".s2s":
        raise typer.BadParameter("a bundle's name ends in .s2s", param_hint="--out")
    if plan:
        from s2svos_engines.tensorrt.builder import build_target

        for library in plan:
            build_target(library.value)  # says now, not after the export, what is missing
    wanted = {"fp32": fp32, "fp16": fp16, "int8": int8}
    precisions = tuple(name for name, is_wanted in wanted.items() if is_wanted)
    if not precisions:
        raise typer.BadParameter("choose --fp16 or --int8 with --no-fp32", param_hint="--no-fp32")
    with needs("train"):
        from s2svos.network.checkpoint import load_network, read_checkpoint
        from s2svos_export.drift_report import draw_drift, print_drift
        from s2svos_export.export import ExportConfig, sizes
        from s2svos_export.export import export as export_network
        from s2svos_export.graphs import MOST_OBJECTS
    from s2svos.commands.terminal import counting_progress
    from s2svos.network.config import config_to_json
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.files import write_atomically

    network = load_network(checkpoint, size=parsed)
    if not out.parent.is_dir():
        raise UserError(f"The folder {out.parent} does not exist", "create it or choose another -o")
    clip, source = _clip(drift_clip, param="--drift-clip")
    calibration = [_clip(text, param="--calibrate")[0] for text in calibrate or ()]
    if not calibration:
        calibration = [_clip(None, param="--calibrate")[0]]
    config = ExportConfig(
        precisions=precisions,
        frames_per_call=frames_per_call,
        batch=batch,
        max_objects=max_objects or MOST_OBJECTS,
        frames=drift_frames,
        budget=drift_budget,
        accept_drift=accept_drift,
    )
    facts = {
        "network": config_to_json(network.config),
        "training": read_checkpoint(checkpoint)["facts"],
    }
    with counting_progress("frames", total=drift_frames) as progress:
        report = export_network(
            network,
            out,
            name=network.config.preset,
            clip=clip,
            source=source,
            calibration=calibration,
            config=config,
            facts=facts,
            say=_say,
            progress=lambda frame: progress(completed=frame),
        )
    picture = out.with_suffix(".drift.png")
    write_atomically(picture, draw_drift(report))
    print_drift(report)
    if plan:
        _add_plans(out, plan, max_objects=max_objects)
    bundle = Bundle.open(out)
    parts = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in sizes(bundle).items())
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB ({parts}); drift in {picture}.")
    if triton:
        with needs("triton"):
            from s2svos_export.triton import write_model_repository
        best = "fp16" if fp16 else precisions[0]
        folder = write_model_repository(bundle, triton, precision=best)
        typer.echo(f"{folder}: model repository in {best}; its README says how to serve it.")


def _add_plans(out: Path, libraries: list[PlanLibrary], *, max_objects: int | None) -> None:
    from s2svos_engines.tensorrt.builder import MOST_OBJECTS
    from s2svos_engines.tensorrt.plan_cache import build_plans

    for library in libraries:
        most = max_objects or MOST_OBJECTS
        plans = build_plans(out, library.value, say=_say, max_objects=most)
        typer.echo(f"{len(plans)} plans of {library.value} are in {out}.")


def _say(text: str) -> None:
    typer.echo(f"{text} ...", err=True)


def _clip(text: str | None, *, param: str) -> tuple[Clip, str]:
    """Frames and ids of VIDEO=MASK, and the clip's name; the rendered one for None."""
    if text is None:
        from s2svos.sample.render import render

        return list(render()), "the clip of s2svos demo"
    from s2svos.video.masks import read_first_mask
    from s2svos.video.reader import Video

    path, equals, mask = text.rpartition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not VIDEO=MASK", param_hint=param)
    video = Video(path)
    ids = read_first_mask(mask, size=(video.height, video.width)).ids
    return _Frames(video, ids), Path(path).name


class _Frames:
    """A video as often as it is wanted, each frame with the first one's ids."""

    def __init__(self, video: Video, ids: NDArray[np.uint8]) -> None:
        self._video, self._ids = video, ids

    def __iter__(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
        return ((frame, self._ids) for _, frame in self._video)
