"""Picture sizes on the command line.

Precisions on the command line."""

from __future__ import annotations

from enum import StrEnum

import typer


def parse_size(size: str | None, *, example: str) -> tuple[int, int] | None:
    """Height and width of ``--size HEIGHTxWIDTH``; None if it was not given."""
    if size is None:
        return None
    height, cross, width = size.partition("x")
    if not (cross and height.isdigit() and width.isdigit() and int(height) and int(width)):
        raise typer.BadParameter(
            f"{size!r} is not HEIGHTxWIDTH, as in {example}", param_hint="--size"
        )
    return int(height), int(width)


class GraphPrecision(StrEnum):
    """Of a bundle's graphs."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
