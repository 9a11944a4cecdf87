"""``s2svos export``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from s2svos.commands.options import LAST_FRAME, parse_frame_size, within
from s2svos.shipped import BUNDLES, bundle_path, checkpoint_path
from s2svos_engines.errors import UserError


class PlanLibrary(StrEnum):
    """The libraries that build plans."""

    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


def export(
    checkpoint: Annotated[
        Path | None,
        typer.Argument(
            metavar="lite|lite-fast|FILE.pt|FILE.s2s",
            help="Checkpoint: lite or lite-fast, which ship, or one that s2svos train wrote; for "
            "--plan and --web alone a bundle: lite, the default, lite-hq, lite-fast or your own.",
            show_default=False,
        ),
    ] = None,
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
        bool,
        typer.Option(
            "--batch", help="Add a graph of many streams, for Tracker.step_many on a GPU."
        ),
    ] = False,
    calibrate: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIDEO=MASK",
            help="Video and first mask by which int8 is set, several times for several, which is "
            "better; default: the clip of s2svos demo. Of each the beginning is followed.",
        ),
    ] = None,
    drift_clip: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VIDEO=MASK",
            help="On which the graphs are compared with PyTorch and int8 is chosen, several times "
            "for several, of which each has to hold; default: the clip of s2svos demo.",
        ),
    ] = None,
    drift_frames: Annotated[
        int, typer.Option(min=10, max=LAST_FRAME, help="How many frames of each.")
    ] = 300,
    drift_budget: Annotated[
        float,
        typer.Option(
            callback=within(0, 1, or_low=True), help="Least mean IoU with PyTorch in fp32."
        ),
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
    web: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a page in which the network runs in the browser, for any web server.",
        ),
    ] = None,
    web_packages: Annotated[
        Path | None,
        typer.Option(
            metavar="NODE_MODULES", help="With the page's libraries; default: npm fetches them."
        ),
    ] = None,
) -> None:
    """Turn a checkpoint into a bundle of ONNX graphs, compared with PyTorch frame by frame."""
    ships = out is None and str(checkpoint) in BUNDLES
    if checkpoint is None or checkpoint.suffix == ".s2s" or ships:
        _add_to_bundle(checkpoint, plan, web, web_packages, max_objects=max_objects)
        return
    frame_size = parse_frame_size(size, example="448x256")
    parsed = frame_size and frame_size.shape
    if out is None or out.suffix != ".s2s":
        raise typer.BadParameter("a bundle's name ends in .s2s", param_hint="--out")
    wanted = {"fp32": fp32, "fp16": fp16, "int8": int8}
    precisions = tuple(name for name, is_wanted in wanted.items() if is_wanted)
    if not precisions:
        raise typer.BadParameter("choose --fp16 or --int8 with --no-fp32", param_hint="--no-fp32")
    drift_clips = [_clip_name(text, param="--drift-clip") for text in drift_clip or ()]
    calibration = [_clip_name(text, param="--calibrate") for text in calibrate or ()]
    if plan:
        from s2svos_engines.tensorrt.builder import build_target

        for library in plan:
            build_target(library.value)  # says now, not after the export, what is missing

    from s2svos.commands.terminal import counting_progress
    from s2svos.exporting import export_checkpoint
    from s2svos.extras import needs
    from s2svos_engines.files import disk_errors, write_atomically

    with needs("train"):
        from s2svos_export.drift_report import draw_drift, print_drift
        from s2svos_export.export import ExportConfig
        from s2svos_export.graphs import MAX_OBJECTS
    config = ExportConfig(
        precisions=precisions,
        frames_per_call=frames_per_call,
        batch=batch,
        max_objects=max_objects or MAX_OBJECTS,
        frames=drift_frames,
        budget=drift_budget,
        accept_drift=accept_drift,
    )
    with _bundle_alone(out):
        total = drift_frames * (len(drift_clips) or 1)
        with counting_progress("frames", total=total) as progress:
            reports = export_checkpoint(
                checkpoint_path(checkpoint),
                out,
                config=config,
                size=parsed,
                drift_clips=drift_clips,
                calibration=calibration,
                log=_log,
                progress=lambda frame: progress(completed=frame),
            )
        pictures = []
        for index, report in enumerate(reports, 1):
            picture = out.with_suffix(".drift.png" if index == 1 else f".drift-{index}.png")
            with disk_errors(picture, again="export again", elsewhere="choose another -o"):
                write_atomically(picture, draw_drift(report))
            print_drift(report)
            pictures.append(str(picture))
        if plan:
            _add_plans(out, plan, max_objects=max_objects)
        _print_sizes(out, pictures)
        if triton:
            _write_model_repository(out, triton, precision="fp16" if fp16 else precisions[0])
        if web:
            _write_web_page(out, web, web_packages)


def _add_to_bundle(
    bundle: Path | None,
    plan: list[PlanLibrary] | None,
    web: Path | None,
    web_packages: Path | None,
    *,
    max_objects: int | None,
) -> None:
    """Do what needs no checkpoint: plans, which go into the bundle, and the page."""
    from s2svos.locks import locked_file

    if not (plan or web):
        raise typer.BadParameter("name a checkpoint and --out, or --plan or --web for a bundle")
    if plan:
        if bundle is None:
            raise typer.BadParameter("name the bundle to add plans to", param_hint="--plan")
        with locked_file(bundle):
            _add_plans(bundle, plan, max_objects=max_objects)
    if web:
        _write_web_page(bundle_path(bundle), web, web_packages)


@contextmanager
def _bundle_alone(out: Path) -> Iterator[None]:
    """Keep other runs from a bundle that is written, and what is no bundle from being replaced."""
    from s2svos.locks import locked_file
    from s2svos_engines.bundle import Bundle

    if not out.parent.is_dir():
        raise UserError(f"The folder {out.parent} does not exist", "create it or choose another -o")
    with locked_file(out):
        if out.exists():
            try:
                Bundle.open(out)
            except UserError as error:
                raise UserError(
                    f"{out} exists and is no bundle that s2svos export wrote",
                    "move it away, or choose another -o",
                ) from error
        yield


def _clip_name(text: str, *, param: str) -> tuple[str, str]:
    """Return the two paths of VIDEO=MASK."""
    video, equals, mask = text.rpartition("=")
    if not equals:
        raise typer.BadParameter(f"{text!r} is not VIDEO=MASK", param_hint=param)
    return video, mask


def _add_plans(out: Path, libraries: list[PlanLibrary], *, max_objects: int | None) -> None:
    from s2svos_engines.tensorrt.plan_cache import build_plans

    for library in libraries:
        plans = build_plans(out, library.value, log=_log, max_objects=max_objects)
        typer.echo(f"{len(plans)} plans of {library.value} are in {out}.")


def _print_sizes(out: Path, pictures: list[str]) -> None:
    from s2svos_engines.bundle import Bundle
    from s2svos_export.export import sizes

    parts = ", ".join(
        f"{name} {size / 1e6:.1f} MB" for name, size in sizes(Bundle.open(out)).items()
    )
    drift = " and ".join(pictures)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.1f} MB ({parts}); drift in {drift}.")


def _write_model_repository(out: Path, directory: Path, *, precision: str) -> None:
    from s2svos.extras import needs
    from s2svos_engines.bundle import Bundle

    with needs("triton"):
        from s2svos_export.triton import write_model_repository
    folder = write_model_repository(Bundle.open(out), directory, precision=precision)
    typer.echo(f"{folder}: model repository in {precision}; its README says how to serve it.")


def _write_web_page(bundle: Path, out: Path, packages: Path | None) -> None:
    from s2svos.studio.web_page import write_web_page
    from s2svos_engines.bundle import Bundle

    write_web_page(Bundle.open(bundle), out, packages=packages)
    typer.echo(f"{out}: the page; look at it with s2svos studio --serve {out}.")


def _log(text: str) -> None:
    typer.echo(f"{text} ...", err=True)
