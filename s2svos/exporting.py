"""Checkpoints as bundles: exported to stay, or for one run."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from s2svos.extras import needs
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors

if TYPE_CHECKING:
    from s2svos.video.reader import Video
    from s2svos_engines.arrays import Frame, Labels
    from s2svos_export.drift import DriftReport
    from s2svos_export.export import ExportConfig, NamedClip

DRIFT_FRAMES = 50  # of an export for one run

ClipName = tuple[str, str]
"""Path of a video, and path of the mask of its first frame."""


def export_checkpoint(
    checkpoint: Path,
    out: Path,
    *,
    config: ExportConfig,
    size: tuple[int, int] | None = None,
    drift_clips: Sequence[ClipName] = (),
    calibration: Sequence[ClipName] = (),
    log: Callable[[str], None],
    progress: Callable[[int], None] = lambda frame: None,
) -> list[DriftReport]:
    """Export a checkpoint into a bundle, compared with the network in PyTorch.

    Args:
        checkpoint: that ``s2svos train`` wrote.
        out: the bundle, replaced if it exists.
        config: graphs, and how far their masks may drift.
        size: height and width of the network's frame in pixels; None for the checkpoint's.
        drift_clips: on which graphs and network are compared; none for the clip of ``s2svos
            demo``.
        calibration: clips by which int8 is set; none for the clip of ``s2svos demo``.
        log: called with a line for each part of the work.
        progress: called with the share of the comparison that is done, from 0 to the config's
            ``frames`` for each clip.

    Returns:
        How far the masks drift on each clip.

    Raises:
        UserError: the checkpoint or a clip cannot be read, masks drift too far, ``out`` cannot be
            written, or the extra ``train`` is missing. Nothing is written.
    """
    if not out.parent.is_dir():
        raise UserError(f"The folder {out.parent} does not exist", "create it or choose another -o")
    with needs("train"):
        from s2svos_export.export import DriftError
    try:
        with disk_errors(out, again="export again", elsewhere="choose another -o"):
            return _export(checkpoint, out, config, size, drift_clips, calibration, log, progress)
    except DriftError as error:
        raise UserError(
            f"{error.problem}. Nothing was written",
            "lower --drift-budget or say --accept-drift if that will do",
        ) from error


@dataclass(frozen=True)
class OpenedModel:
    """A network that can be run.

    Args:
        path: the bundle or checkpoint that was named.
        sha256: of that bundle, as it names itself, or of that checkpoint's bytes.
        bundle: to run; the same file, or the checkpoint's export.
    """

    path: Path
    sha256: str
    bundle: Bundle


@contextmanager
def open_model(path: Path) -> Iterator[OpenedModel]:
    """Open a bundle, or export a checkpoint (``.pt``) into one that goes away at the end.

    Raises:
        UserError: it cannot be used, or a checkpoint needs the extra ``train``.
    """
    if path.suffix != ".pt":
        bundle = Bundle.open(path)
        yield OpenedModel(path, bundle.sha256, bundle)
        return
    if not path.is_file():
        raise UserError(f"{path} does not exist", "name a checkpoint that s2svos train wrote")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with _exported_for_one_run(path) as bundle:
        yield OpenedModel(path, sha256, bundle)


@contextmanager
def _exported_for_one_run(checkpoint: Path) -> Iterator[Bundle]:
    with needs("train"):
        from s2svos_export.export import DriftError, ExportConfig
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="s2svos-"))
            out = Path(folder) / f"{checkpoint.stem}.s2s"
            _export(checkpoint, out, ExportConfig(frames=DRIFT_FRAMES))
        except OSError as error:
            raise UserError(
                f"{checkpoint} is exported into a temporary folder first, which cannot be written "
                f"({error.strerror or error})",
                "make room there, or name another with TMPDIR",
            ) from error
        except DriftError as error:
            raise UserError(
                f"The graphs of {checkpoint} do not follow objects as PyTorch does: "
                f"{error.problem}",
                "export it with s2svos export, and name that bundle",
            ) from error
        yield Bundle.open(out, lasting=False)


def _export(
    checkpoint: Path,
    out: Path,
    config: ExportConfig,
    size: tuple[int, int] | None = None,
    drift_clips: Sequence[ClipName] = (),
    calibration: Sequence[ClipName] = (),
    log: Callable[[str], None] = lambda text: None,
    progress: Callable[[int], None] = lambda frame: None,
) -> list[DriftReport]:
    from s2svos.network.checkpoint import load_network, read_checkpoint
    from s2svos.network.config import config_to_json
    from s2svos_export.export import export

    network = load_network(checkpoint, size=size)
    clips = [_open_clip(one) for one in drift_clips]
    calibration_clips = [_open_clip(one) for one in calibration]
    by_demo = "int8" in config.precisions and not calibration  # all of that clip sets int8
    if by_demo or not clips:
        drawn = [_demo_clip(None if by_demo else config.frames + 1)]
        clips, calibration_clips = clips or drawn, calibration_clips or drawn
    return export(
        network,
        out,
        name=network.config.preset,
        clips=clips,
        calibration=[clip for _, clip in calibration_clips],
        config=config,
        facts={
            "network": config_to_json(network.config),
            "training": read_checkpoint(checkpoint)["facts"],
        },
        log=log,
        progress=progress,
        other_process=_other_process if len(config.precisions) > 1 else nullcontext,
    )


@contextmanager
def _other_process() -> Iterator[Executor | None]:
    """Give a process that exports graphs beside this one; None where there is one core for both."""
    from s2svos.workers import worker_pool
    from s2svos_engines.cpu import cpu_count

    if cpu_count() == 1:
        yield None
        return
    broken = "A process that exported graphs was ended from outside, perhaps for want of memory"
    with worker_pool(1, _import_exporter, broken=broken) as executor:
        yield executor
        executor.shutdown()  # in peace: torch leaves a semaphore behind in a process that is killed


def _import_exporter() -> None:
    """Take what takes seconds while the first graph is on its way."""
    import s2svos_export.graphs  # noqa: F401


def _demo_clip(length: int | None) -> NamedClip:
    """Draw the clip of ``s2svos demo``, or its first frames."""
    from s2svos.sample.render import render

    return "the clip of s2svos demo", list(islice(render(), length))


def _open_clip(name: ClipName) -> NamedClip:
    from s2svos.video.masks import read_first_mask
    from s2svos.video.reader import Video

    video = Video(name[0], beside=[Path(name[1])])
    labels = read_first_mask(name[1], size=(video.height, video.width)).ids
    return Path(name[0]).name, _MaskedVideo(video, labels)


class _MaskedVideo:
    """A video, as often as it is iterated, each frame with the first one's ids."""

    def __init__(self, video: Video, labels: Labels) -> None:
        self._video, self._labels = video, labels

    def __iter__(self) -> Iterator[tuple[Frame, Labels]]:
        return ((frame, self._labels) for _, frame in self._video)
