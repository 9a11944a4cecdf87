"""What several commands' options are read with: sizes, engines, precisions."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import TYPE_CHECKING, NamedTuple

import typer

from s2svos_engines.registry import ENGINES

# An engine by name; ``auto`` is the fastest that is installed. Type checkers see a text: they know
# no enumeration whose members are computed.
if TYPE_CHECKING:
    EngineChoice = str
else:
    EngineChoice = StrEnum("EngineChoice", [(name, name) for name in ("auto", *ENGINES)])


class GraphPrecision(StrEnum):
    """Precision of a bundle's graphs."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class WindowChoice(StrEnum):
    """Which part of the frames the network sees; the engines' ``WindowMode`` needs NumPy."""

    AUTO = "auto"
    OFF = "off"


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, as arrays have them."""
        return self.height, self.width


def parse_size(text: str, *, option: str, example: str) -> Size:
    """Read WIDTHxHEIGHT, the width first as in ffmpeg.

    Raises:
        typer.BadParameter: it is none.
    """
    found = re.fullmatch(r"([1-9][0-9]*)x([1-9][0-9]*)", text, re.ASCII)
    if not found:
        raise typer.BadParameter(
            f"{text!r} is not WIDTHxHEIGHT, as in {example}", param_hint=option
        )
    return Size(int(found[1]), int(found[2]))


def parse_frame_size(text: str | None, *, option: str = "--size", example: str) -> Size | None:
    """Read the size of frames, which was HEIGHTxWIDTH in earlier versions.

    A size that is higher than wide may be meant in either order, so it has to be said in full:
    ``width=W,height=H``, which is read too.

    Raises:
        typer.BadParameter: it is none, or both readings are possible.
    """
    if text is None:
        return None
    if full := re.fullmatch(r"width=([1-9][0-9]*),height=([1-9][0-9]*)", text, re.ASCII):
        return Size(int(full[1]), int(full[2]))
    size = parse_size(text, option=option, example=example)
    if size.width < size.height:
        raise typer.BadParameter(
            f"{text} was {size.height} wide and {size.width} high in earlier versions, and is "
            f"WIDTHxHEIGHT now: say {size.height}x{size.width} for that, or "
            f"width={size.width},height={size.height} for frames that are higher than wide",
            param_hint=option,
        )
    return size
