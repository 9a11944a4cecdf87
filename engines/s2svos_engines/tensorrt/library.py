"""The two TensorRT libraries: loading, versions, logs, and the errors of their ONNX parser."""

from __future__ import annotations

import importlib
import logging
import re
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, NamedTuple

from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    import tensorrt

LOG = logging.getLogger("s2svos.tensorrt")
LOG.addHandler(logging.NullHandler())


class _Wanted(NamedTuple):
    title: str
    modules: tuple[str, ...]  # NVIDIA's installer and the wheels name it differently
    least: tuple[int, int]


# TensorRT-RTX 1.4 to 1.6 build fp32 and fp16, but refuse a convolution in int8.
LIBRARIES = {
    "tensorrt": _Wanted("TensorRT", ("tensorrt",), (10, 9)),
    "tensorrt-rtx": _Wanted("TensorRT-RTX", ("tensorrt_rtx", "tensorrt_rtx_bindings"), (1, 7)),
}
"""By the name that the command line and the extras of the package use."""


@cache
def load_library(name: str) -> ModuleType:
    """Import ``tensorrt`` or ``tensorrt-rtx``, whose interfaces are the same.

    Raises:
        UserError: it is not installed, broken or too old.
    """
    wanted = LIBRARIES[name]
    remedy = f'pip install "s2svos[{name}]"'
    for module_name in wanted.modules:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            raise UserError(
                f"{wanted.title} is installed but cannot be loaded ({error})",
                f"reinstall it with {remedy}",
            ) from error
        if _version(module) < wanted.least:
            least = ".".join(map(str, wanted.least))
            raise UserError(
                (
                    f"{wanted.title} {module.__version__} is too old, {least} is the oldest that "
                    "builds these graphs"
                ),
                f"upgrade it with {remedy}",
            )
        return module
    raise UserError(f"{wanted.title} is not installed", f"install it with {remedy}")


def _version(module: ModuleType) -> tuple[int, ...]:
    return tuple(int(part) for part in module.__version__.split(".")[:2])


@cache
def library_log(name: str) -> tensorrt.ILogger:
    """Hands what the library says to Python's logger ``s2svos.tensorrt``.

    One a process: TensorRT ignores any other while something made with the first lives.
    """
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = load_library(name)
    levels = {
        trt.ILogger.Severity.INTERNAL_ERROR: logging.CRITICAL,
        trt.ILogger.Severity.ERROR: logging.ERROR,
        trt.ILogger.Severity.WARNING: logging.WARNING,
        trt.ILogger.Severity.INFO: logging.INFO,
        trt.ILogger.Severity.VERBOSE: logging.DEBUG,
    }

    class Log(trt.ILogger):
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: trt.ILogger.Severity, msg: str) -> None:
            LOG.log(levels[severity], "%s", msg)

    return Log()


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
