"""What TensorRT's ONNX parser complains of, and what to do about it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorrt

# First match counts; searched in "CODE description".
ADVICE = (
    (
        r"type Int32 but must have type FP8",
        "leave biases unquantised: TensorRT refuses an INT32 bias and quantises none itself",
    ),
    (
        r"[Nn]on-zero zero point",
        "quantise symmetrically: every zero point is 0",
    ),
    (
        r"is UInt8|type UInt8|legalUINT8|is UINT8",
        "uint8 may only enter through a Cast to a float type and leave through a Cast from one; "
        "put the arithmetic between the two",
    ),
    (
        r"Plugin not found",
        "TensorRT has no such operator; express it with operators of standard ONNX",
    ),
    (
        r"NODE_DYNAMIC|NODE_SHAPE",
        "give this node static shapes; the object count alone may vary",
    ),
    (r"MODEL_DESERIALIZE_FAILED", "this is no whole ONNX model; export it again"),
    (r"MEM_ALLOC_FAILED", "free memory and build again"),
    (
        r"NODE",
        "express this node with other operators or types; TensorRT's parser lists what it takes in "
        "docs/operators.md of onnx-tensorrt",
    ),
    (r"", "report it with the build log"),
)


def parser_errors(parser: tensorrt.OnnxParser) -> str:
    """Every error in full, each on a line with its node, followed by a line of advice."""
    text = ""
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        found = f"{error.code().name} {error.desc()}"
        where = f"node {error.node_name() or error.node()} ({error.node_operator()})"
        if error.node() < 0:
            where = "the model"
        advice = next(advice for pattern, advice in ADVICE if re.search(pattern, found))
        text += f"\n  At {where}: {found}\n  What to do: {advice}."
    return text
