"""s2svos: the video object segmenter that deploys.

>>> import s2svos
>>> s2svos.infer("video.mp4", "first.png")  # masks, overlay and run.json in ./video
>>> tracker = s2svos.load()
>>> frames = s2svos.read("video.mp4")
>>> stream = tracker.open(next(frames), mask)
>>> for labels in stream.follow(frames): ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos.inference.summary import RunSummary
    from s2svos_engines.arrays import Frame
    from s2svos_engines.tracker import Tracker

__version__ = version("s2svos")
__all__ = ["UserError", "__version__", "default_bundle", "infer", "load", "read"]


def default_bundle() -> Path:
    """Return the path of the bundle that ships with the package."""
    return Path(__file__).parent / "weights" / "lite.s2s"


def read(video: str | Path, *, start: int = 0, end: int | None = None) -> Iterator[Frame]:
    """Yield the frames of a video file or a folder of pictures, uint8 [H, W, 3] RGB, one by one.

    Args:
        video: its path.
        start: index of the first frame.
        end: index after the last one; None for all.

    Raises:
        UserError: it cannot be read.
    """
    from s2svos.video.reader import Video

    return (frame for _, frame in Video(video, start=start, end=end))


def infer(
    video: str | Path,
    mask: str | Path,
    out: str | Path | None = None,
    *,
    later: Mapping[int, str | Path] | None = None,
    tracker: Tracker | None = None,
    overlay: bool = True,
    overwrite: bool = False,
) -> RunSummary:
    """Follow the objects of a video's first frame, as ``s2svos infer`` does.

    Args:
        video: a file or a folder of pictures.
        mask: PNG with the objects on its first frame.
        out: folder for the results; None for one named after the video, in the working folder.
        later: masks of later frames by their index: corrections, and objects that enter.
        tracker: that follows; None for the bundle that ships, with a window that follows the
            objects.
        overlay: also make ``overlay.mp4``.
        overwrite: replace an earlier run's results.

    Returns:
        What was done, as ``run.json`` has it.

    Raises:
        UserError: a file cannot be read or written, or a mask does not fit.
    """
    from s2svos.inference.run import default_out
    from s2svos.inference.run import infer as run
    from s2svos.video.masks import read_first_mask
    from s2svos.video.reader import Video

    masks = {index: Path(path) for index, path in (later or {}).items()}
    opened = Video(video, beside=[Path(mask), *masks.values()])
    size = opened.height, opened.width
    return run(
        opened,
        read_first_mask(mask, size=size),
        lambda: tracker or load(window="auto"),
        out=Path(out) if out else default_out(video),
        later={index: read_first_mask(path, size=size) for index, path in masks.items()},
        overlay=overlay,
        overwrite=overwrite,
    )


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
        bundle: path of a ``.s2s`` file; None for the one that ships with the package.
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

    path = default_bundle() if bundle is None else Path(bundle)
    return Tracker.load(path, engine=engine, precision=precision, threads=threads, window=window)
