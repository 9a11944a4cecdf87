"""What several commands' options are read with: sizes, engines, precisions."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from s2svos_engines.registry import ENGINES

# An engine by name; ``auto`` is the fastest that is installed. Type checkers see a text: they know
# no enumeration whose members are computed.
if TYPE_CHECKING:
    EngineChoice = str
else:
    EngineChoice = StrEnum("EngineChoice", [(name, name) for name in ("auto", *ENGINES)])


# Of s2svos.saving.formats, whose import the command line does without until it saves.
FORMAT_NAMES = (
    "alpha.mov, alpha.webm, layers.mov, matte.mp4, green.mp4, cutouts.zip, coco.json, "
    "youtube-vis.json, mots.txt, yolo.zip, labelme.zip, cvat.xml, voc.zip, davis.zip, tracks.csv, "
    "tracks.parquet"
)
MOST_THREADS = max(64, os.cpu_count() or 1)
MOST_PROCESSES = 256
MOST_STEPS = 1_000_000
LAST_FRAME = 2**31 - 1
LARGEST_SIDE = 16384  # pixels, of H.264's frames


def within(
    low: float, high: float, *, or_low: bool = False
) -> Callable[[float | None], float | None]:
    """Return an option's callback that takes numbers above ``low`` and up to ``high`` alone.

    Typer's own bounds let through what is no number.

    Args:
        low, high: the bounds.
        or_low: ``low`` itself is taken too.
    """

    def check(value: float | None) -> float | None:
        if value is None or low < value <= high or (or_low and value == low):
            return value
        above = f"{low:g} or greater" if or_low else f"greater than {low:g}"
        raise typer.BadParameter(f"must be {above}, and {high:g} at most")

    return check


class GraphPrecision(StrEnum):
    """Precision of a bundle's graphs; ``auto`` is the fastest here that keeps the masks."""

    AUTO = "auto"
    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


BundleOption = Annotated[
    Path | None,
    typer.Option(
        metavar="lite|lite-hq|lite-fast|FILE.s2s",
        help="Network: lite, the default; lite-hq, finer and slower; lite-fast, coarser and "
        "quicker; or one of your own.",
    ),
]
EngineOption = Annotated[EngineChoice, typer.Option(help="What runs it.")]
PrecisionOption = Annotated[
    GraphPrecision, typer.Option(help="Of the graphs, one that the bundle has.")
]


class WindowChoice(StrEnum):
    """Which part of the frames the network sees; the engines' ``WindowMode`` needs NumPy."""

    AUTO = "auto"
    OFF = "off"


WindowOption = Annotated[
    WindowChoice,
    typer.Option(help="What the network sees: a window that follows the objects, or all."),
]
SnapOption = Annotated[
    bool, typer.Option("--snap", help="Let the network draw the edges of masks drawn in a hurry.")
]
NoOverlayOption = Annotated[
    bool, typer.Option("--no-overlay", help="Write masks only, no overlay.mp4.")
]
SaveOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FORMAT",
        help=f"Also save the objects as any of {FORMAT_NAMES}; may be given more than once.",
    ),
]


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, as arrays have them."""
        return self.height, self.width


def parse_moment(text: str, *, option: str) -> int | Fraction:
    """Read the index of a frame, or a time: ``01:30``, ``00:01:30.5`` or ``90.5s``.

    Returns:
        the index, an int, or seconds, a Fraction.

    Raises:
        typer.BadParameter: it is neither.
    """
    if re.fullmatch("[0-9]{1,10}", text) and int(text) <= LAST_FRAME:
        return int(text)
    if found := re.fullmatch(
        r"(?:([0-9]{1,3}):)?([0-5]?[0-9]):([0-5]?[0-9](?:\.[0-9]{1,9})?)", text
    ):
        hours, minutes, seconds = found.groups()
        return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)
    if found := re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,9})?)s", text):
        return Fraction(found[1])
    raise typer.BadParameter(
        f"{text!r} is neither the index of a frame nor a time as 01:30, 00:01:30.5 or 90s",
        param_hint=option,
    )


def parse_size(text: str, *, option: str, example: str) -> Size:
    """Read WIDTHxHEIGHT, the width first as in ffmpeg.

    Raises:
        typer.BadParameter: it is none, or too large.
    """
    found = re.fullmatch(f"{_SIDE}x{_SIDE}", text)
    if not found:
        raise typer.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT, as in {example}", param_hint=option
        )
    return _size(found, option)


_SIDE = "([1-9][0-9]*)"


def _size(found: re.Match[str], option: str) -> Size:
    width, height = found.groups()
    if any(len(side) > 5 or int(side) > LARGEST_SIDE for side in (width, height)):
        raise typer.BadParameter(f"sides have {LARGEST_SIDE} pixels at most", param_hint=option)
    return Size(int(width), int(height))


def parse_frame_size(text: str | None, *, option: str = "--size", example: str) -> Size | None:
    """Read the size of frames, which was HEIGHTxWIDTH in earlier versions.

    A size that is higher than wide may be meant in either order, so it has to be said in full:
    ``width=W,height=H``, which is read too.

    Raises:
        typer.BadParameter: it is none, or both readings are possible.
    """
    if text is None:
        return None
    if full := re.fullmatch(f"width={_SIDE},height={_SIDE}", text):
        return _size(full, option)
    size = parse_size(text, option=option, example=example)
    if size.width < size.height:
        raise typer.BadParameter(
            f"{text} was {size.height} wide and {size.width} high in earlier versions, and is "
            f"WIDTHxHEIGHT now: say {size.height}x{size.width} for that, or "
            f"width={size.width},height={size.height} for frames that are higher than wide",
            param_hint=option,
        )
    return size
