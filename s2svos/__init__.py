"""s2svos: the video object segmenter that deploys.

>>> import s2svos
>>> s2svos.infer("video.mp4", "first.png")  # masks, overlay and run.json in ./video
>>> tracker = s2svos.load()
>>> frames = s2svos.read("video.mp4")
>>> stream = tracker.open(next(frames), mask)
>>> for labels in stream.follow(frames): ...
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2svos.shipped import bundle_path
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.tracker import Tracker

__version__ = "0.1.0"
__all__ = [
    "UserError",
    "__version__",
    "default_bundle",
    "infer",
    "load",
    "read",
    "to_supervision",
]


def default_bundle() -> Path:
    """Return the path of the bundle that ships with the package."""
    return bundle_path()


def load(
    bundle: str | Path | None = None,
    *,
    engine: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    window: str = "off",
) -> Tracker:
    """Open a bundle on an engine.

    Args:
        bundle: ``lite``, which ships with the package and is the default; ``lite-hq``, finer
            and slower, and ``lite-fast``, coarser and quicker, which ship too; or the path of a
            ``.s2s`` file.
        engine: ``openvino``, ``onnxruntime``, another of ``s2svos infer --engine``, or ``auto`` for
            the fastest that is installed.
        precision: of the graphs: ``fp32``, or ``fp16`` or ``int8`` where the bundle has them; or
            ``auto`` for the fastest on this processor that keeps the masks (IoU with PyTorch at
            least 0.98 when the bundle was made). A processor with bf16 computes in it what is not
            int8.
        threads: processor threads of a step; None for one a core.
        window: ``off``: the network sees the whole frame; or ``auto``: a window that follows the
            objects, so that small ones are as large to it as large ones.

    Raises:
        UserError: the bundle or the engine cannot be used.
    """
    # Imported here: s2svos --help takes 0.1 s less without NumPy and OpenCV.
    from s2svos_engines.tracker import Tracker

    return Tracker.load(
        bundle_path(bundle), engine=engine, precision=precision, threads=threads, window=window
    )


def __getattr__(name: str) -> Any:
    """Return what needs NumPy and PyAV, which ``s2svos --help`` does not wait for."""
    if name in ("infer", "read", "to_supervision"):
        return getattr(import_module("s2svos.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
