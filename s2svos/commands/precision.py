"""Precisions on the command line."""

from __future__ import annotations

from enum import StrEnum


class GraphPrecision(StrEnum):
    """Of a bundle's graphs."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"
