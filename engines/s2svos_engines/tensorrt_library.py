"""The two TensorRT libraries: which is here, is it new enough, and where does it log."""

from __future__ import annotations

import importlib
import logging
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
    """Imports ``tensorrt`` or ``tensorrt-rtx``, whose interfaces are the same.

    Raises:
        UserError: it is not installed, broken or too old.
    """
    wanted = LIBRARIES[name]
    remedy = f'pip install -U "s2svos[{name}]"'
    for module_name in wanted.modules:
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError:
            continue
        except (ImportError, OSError) as error:
            raise UserError(
                f"{wanted.title} is installed but cannot be loaded ({error}); reinstall it with "
                f"{remedy}."
            ) from error
        if _version(module) < wanted.least:
            least = ".".join(map(str, wanted.least))
            raise UserError(
                f"{wanted.title} {module.__version__} is too old, {least} is the oldest that "
                f"builds these graphs; upgrade it with {remedy}."
            )
        return module
    raise UserError(f"{wanted.title} is not installed; install it with {remedy}.")


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
