"""The command ``s2svos infer``."""

from __future__ import annotations

import re
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2svos.commands.options import (
    LAST_FRAME,
    MOST_THREADS,
    BundleOption,
    EngineOption,
    GraphPrecision,
    NoOverlayOption,
    PrecisionOption,
    SaveOption,
    SnapOption,
    WindowChoice,
    WindowOption,
    parse_moment,
    within,
)
from s2svos.commands.video_source import VideoSource
from s2svos.video.address import is_address
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos.inference.run import RunSummary


_INCOMING: dict[str, Any] = {"rich_help_panel": "Camera, stream and standard input"}


def infer(
    video: Annotated[
        str | None,
        typer.Argument(
            help="A video file, a folder of pictures, the address of a stream (rtsp://...), or - "
            "for raw rgb24 frames on standard input.",
            show_default=False,
        ),
    ] = None,
    mask: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[N=]PNG",
            help="Objects on the first frame: palette index or grey value = id, or a colour an "
            "object; or a JSON of LabelMe or COCO. N=PNG is of frame N: a correction, or objects "
            "that enter there; may be given more than once.",
        ),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID=LEFT,TOP,WIDTH,HEIGHT",
            help="Instead of --mask: a box around an object, in pixels, in which the network draws "
            "its edges; may be given more than once.",
        ),
    ] = None,
    mask_at: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=LAST_FRAME,
            help="Index of the frame that --mask is of, from which the objects are followed both "
            "to the end and back to the beginning.",
        ),
    ] = None,
    backwards: Annotated[
        bool,
        typer.Option(
            "--backwards", help="Also follow the objects back from the first mask to --start."
        ),
    ] = False,
    snap: SnapOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            help="Folder for the results; default: the video's name. - writes raw masks, a byte "
            "(the id) a pixel, to standard output.",
        ),
    ] = None,
    bundle: BundleOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = GraphPrecision.FP32,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_THREADS, help="Processor threads of a step; default: one a core."
        ),
    ] = None,
    window: WindowOption = WindowChoice.AUTO,
    no_overlay: NoOverlayOption = False,
    save: SaveOption = None,
    refine: Annotated[
        bool,
        typer.Option(
            "--refine", help="Have the soft edges of --save follow the picture's, for looks."
        ),
    ] = False,
    name: Annotated[
        list[str] | None,
        typer.Option(metavar="ID=TEXT", help="What an object is called in files and messages."),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            metavar="N|TIME",
            help="Index of the frame that the mask is for, or its time: 01:30, 00:01:30.5 or 90s.",
        ),
    ] = "0",
    end: Annotated[
        str | None,
        typer.Option(metavar="N|TIME", help="Index after the last frame, or the time after it."),
    ] = None,
    save_frame: Annotated[
        Path | None,
        typer.Option(help="Save the first frame as this PNG, to draw the mask on, and stop."),
    ] = None,
    mask_frame: Annotated[
        Path | None,
        typer.Option(
            help="The picture that the mask was drawn on, if that is not the first frame: one that "
            "--save-frame saved earlier."
        ),
    ] = None,
    camera: Annotated[
        int | None,
        typer.Option(min=0, max=99, help="Follow what this camera sees.", **_INCOMING),
    ] = None,
    video_size: Annotated[
        str | None,
        typer.Option(
            metavar="WIDTHxHEIGHT",
            help="Size of the raw frames on standard input, width first as in ffmpeg: 854x480. "
            "With --camera, what to ask it for.",
            **_INCOMING,
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(hidden=True, help="Earlier name of --video-size.")
    ] = None,
    fps: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 1000),
            help="Frames a second, where the input does not say.",
            **_INCOMING,
        ),
    ] = None,
    live: Annotated[
        bool | None,
        typer.Option(
            "--live/--no-live",
            help="Whether frames that come too late are dropped; default: those of a camera and of "
            "a stream without an end, not those of standard input.",
            show_default=False,
            **_INCOMING,
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option(
            callback=within(0, 86400), help="Seconds without a frame that end the run.", **_INCOMING
        ),
    ] = 10.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier run's results in OUT.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", help="Go on with the run in OUT if it was ended early; else begin."
        ),
    ] = False,
) -> None:
    """Follow the objects of the first frame's mask through a video."""
    first_index, last_index = _part(video, start, end)
    masks = _masks(mask or [], first_index if mask_at is None else mask_at)
    boxes = _boxes(box or [])
    if boxes and masks:
        raise typer.BadParameter("give --mask or --box, not both", param_hint="--box")
    if boxes:
        masks = {first_index if mask_at is None else mask_at: Path("--box")}
    _check(masks, first_index, last_index, save_frame, mask_frame)
    names = _names(name or [])
    if save and out == Path("-"):
        raise typer.BadParameter("it needs a folder for its files", param_hint="--save")
    source = VideoSource.of(
        video,
        camera,
        size=video_size or size,
        fps=fps,
        live=live,
        timeout=timeout,
        start=first_index,
    )

    if save_frame:
        _save_frame(source, save_frame, first_index, overwrite)
        return
    backwards = backwards or mask_at is not None
    (began, first_path), *others = sorted(masks.items())
    if source.incoming and (others or backwards or began != first_index):
        raise typer.BadParameter(
            "only a file or a folder has masks of later frames, or goes backwards",
            param_hint="--mask",
        )

    from s2svos.shipped import bundle_path
    from s2svos_engines.tracker import Tracker

    # Before a stream is opened, since the objects on its first frame would move on meanwhile; and
    # before a file is, since its engine compiles while Python imports what reads and writes videos.
    tracker = Tracker.load(
        bundle_path(bundle),
        engine=engine,
        precision=precision.value,
        threads=threads,
        window=window.value,
    )
    if not source.incoming:
        tracker.engine.expect(None)

    from s2svos.inference.progress import shown_progress
    from s2svos.inference.run import infer as run
    from s2svos.video.first_frame import read_mask_frame
    from s2svos.video.incoming_sources import masks_only
    from s2svos.video.masks import mask_of_boxes, read_first_mask
    from s2svos.video.reader import Video

    beside = [path for path in (*masks.values(), mask_frame) if path]
    opened = source.open(began, last_index, beside=beside)
    size_opened = opened.height, opened.width
    first = (
        mask_of_boxes(boxes, size_opened)
        if boxes
        else read_first_mask(first_path, size=size_opened)
    )
    later = {index: read_first_mask(path, size=size_opened) for index, path in others}
    before = None
    if backwards and began > first_index:
        assert isinstance(opened, Video)
        before = opened.part(first_index, began)
    frame_of_mask = read_mask_frame(mask_frame, size=size_opened) if mask_frame else None
    _warn(*opened.doubts, *first.doubts, *(doubt for one in later.values() for doubt in one.doubts))
    to_pipe = out == Path("-")
    try:
        with (
            masks_only() if to_pipe else nullcontext(out or source.default_out()) as place,
            shown_progress(_sum(opened.count, before.count if before else 0)) as on_frame,
        ):
            summary = run(
                opened,
                first,
                lambda: tracker,
                out=place,
                mask_frame=frame_of_mask,
                later=later,
                before=before,
                snap=snap or bool(boxes),
                overlay=not no_overlay,
                save=save or (),
                refine=refine,
                names=names,
                overwrite=overwrite,
                resume=resume,
                report=on_frame,
            )
    except (UserError, KeyboardInterrupt) as error:
        for note in getattr(error, "__notes__", ()):
            typer.echo(note, err=True)
        raise
    typer.echo(_closing_line(summary), err=to_pipe)


def _part(video: str | None, start: str, end: str | None) -> tuple[int, int | None]:
    """Return the indices of the first frame and of that after the last one."""
    moments = {"--start": parse_moment(start, option="--start")}
    if end is not None:
        moments["--end"] = parse_moment(end, option="--end")
    if any(isinstance(one, Fraction) for one in moments.values()):
        if video is None or video == "-" or is_address(video):
            raise typer.BadParameter(
                "a camera, a stream and standard input know no times before they come",
                param_hint="--start",
            )
        from s2svos.video.reader import Video

        opened = Video(video)
        moments = {
            key: opened.index_at(one) if isinstance(one, Fraction) else one
            for key, one in moments.items()
        }
    first, last = moments["--start"], moments.get("--end")
    assert isinstance(first, int) and not isinstance(last, Fraction)
    return first, last


def _boxes(texts: list[str]) -> dict[int, tuple[int, int, int, int]]:
    """Return the boxes by their id, of ``ID=LEFT,TOP,WIDTH,HEIGHT`` each.

    Raises:
        typer.BadParameter: one is not that, or an object has two.
    """
    found: dict[int, tuple[int, int, int, int]] = {}
    for text in texts:
        numbers = re.fullmatch(
            r"([0-9]{1,3})=(-?[0-9]{1,5}),(-?[0-9]{1,5}),([0-9]{1,5}),([0-9]{1,5})", text
        )
        one = int(numbers[1]) if numbers else 0
        if not numbers or not 1 <= one <= 255 or one in found:
            raise typer.BadParameter(
                f"{text!r} is not ID=LEFT,TOP,WIDTH,HEIGHT of a new object, as in 1=40,30,200,120",
                param_hint="--box",
            )
        left, top, width, height = map(int, numbers.groups()[1:])
        found[one] = left, top, width, height
    return found


def _masks(texts: list[str], start: int) -> dict[int, Path]:
    """Return the masks' paths by the index of their frame, of ``[N=]PATH`` each.

    Raises:
        typer.BadParameter: two are of one frame.
    """
    found: dict[int, Path] = {}
    for text in texts:
        numbered = re.fullmatch(r"([0-9]{1,9})=(.+)", text)
        if numbered and not Path(text).exists():
            index, path = int(numbered[1]), Path(numbered[2])
        else:
            index, path = start, Path(text)
        if index in found:
            raise typer.BadParameter(
                f"{found[index]} and {path} are both of frame {index}; say N={path} for frame N",
                param_hint="--mask",
            )
        found[index] = path
    return found


def _names(texts: list[str]) -> dict[int, str]:
    """Return what objects are called by their id, of ``ID=TEXT`` each.

    Raises:
        typer.BadParameter: one is not that.
    """
    found = {}
    for text in texts:
        numbered = re.fullmatch(r"([0-9]{1,3})=(.+)", text)
        if not numbered or not 1 <= int(numbered[1]) <= 255 or not numbered[2].isprintable():
            raise typer.BadParameter(f"{text!r} is not ID=TEXT, as in 1=koi", param_hint="--name")
        found[int(numbered[1])] = numbered[2]
    return found


def _sum(*counts: int | None) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


def _check(
    masks: dict[int, Path],
    start: int,
    end: int | None,
    save_frame: Path | None,
    mask_frame: Path | None,
) -> None:
    """Refuse options that make no sense together."""
    if end is not None and end <= start:
        raise typer.BadParameter(f"must be greater than --start, {start}", param_hint="--end")
    if save_frame and save_frame.suffix.lower() != ".png":
        raise typer.BadParameter(
            "a frame is saved without loss, as NAME.png", param_hint="--save-frame"
        )
    if save_frame and masks:
        raise typer.BadParameter("it stops before a mask is used", param_hint="--save-frame")
    if masks and min(masks) < start:
        raise typer.BadParameter(
            f"a mask is of frame {min(masks)}, before --start {start}", param_hint="--mask"
        )
    if masks and end is not None and max(masks) >= end:
        raise typer.BadParameter(
            f"a mask is of frame {max(masks)}, but the run ends before {end}", param_hint="--mask"
        )
    if mask_frame and len(masks) > 1:
        raise typer.BadParameter("it takes one --mask alone", param_hint="--mask-frame")
    if not masks and (mask_frame or not save_frame):
        raise typer.BadParameter(
            "missing; mark the objects on the first frame, which --save-frame FRAME.png saves",
            param_hint="--mask",
        )


def _save_frame(source: VideoSource, path: Path, start: int, overwrite: bool) -> None:
    from s2svos.video.first_frame import save_first_frame

    if path.exists() and not overwrite:
        raise UserError(f"{path} exists", "choose another --save-frame, or --overwrite it")
    opened = source.open(start, start + 1)
    _warn(*opened.doubts)
    save_first_frame(opened, path)
    again = f" --mask-frame {path}" if source.incoming else ""
    typer.echo(
        f"{path}: the first frame, {opened.width}x{opened.height}. Mark the objects on it as ids "
        f"in an indexed or grey PNG; then follow them with --mask MASK.png{again}."
    )


def _warn(*doubts: str) -> None:
    for doubt in doubts:
        typer.secho(f"Warning: {doubt}", fg=typer.colors.YELLOW, err=True)


def _closing_line(summary: RunSummary) -> str:
    seconds = summary.seconds
    rate = summary.frames / max(seconds.total - seconds.load, 1e-9)
    return f"{summary.tally().removesuffix('.')}; {summary.engine}, {rate:.1f} frames/s."
