"""The last stages of a run, which take masks: a folder of results, or a pipe."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from io import FileIO
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from s2svos.inference.state import STATE, RunState
from s2svos.inference.written_files import WrittenFiles
from s2svos.locks import content
from s2svos.pipeline import OutputClosed, Sink, StageFailed
from s2svos.saving.formats import Savers, is_soft
from s2svos.saving.frame import SavedFrame, SavedVideo
from s2svos.video.incoming import IncomingVideo
from s2svos.video.masks import write_mask
from s2svos.video.overlay import paint
from s2svos.video.pictures import read_ids
from s2svos.video.reader import Video
from s2svos.video.writer import VideoWriter
from s2svos_engines.arrays import Labels
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, write_atomically


class ResultsFolder:
    """``masks/``, ``overlay.mp4`` and ``run.json``; nothing is left behind without a result.

    Args:
        out: the folder, which this run has alone; empty, unless ``overwrite``.
        overwrite: replace earlier runs' files; others in the folder stay.
        overlay: there is to be one.
        saved: names of further files that are to be.
        inputs: files and folders that must not be among the replaced.
        kept: names of an earlier run's masks with which this run goes on.

    Attributes:
        masks, overlay, run, state: paths of what is written.

    Raises:
        UserError: the folder may not be used.
    """

    def __init__(
        self,
        out: Path,
        *,
        overwrite: bool,
        overlay: bool = True,
        saved: Sequence[str] = (),
        inputs: tuple[Path, ...] = (),
        kept: Sequence[str] = (),
    ) -> None:
        self.out = out
        self.masks = out / "masks"
        self.overlay = out / "overlay.mp4"
        self.run = out / "run.json"
        self.state = out / STATE
        self.kept = [self.mask(name) for name in kept]
        self._written = WrittenFiles(
            out, masks=self.masks, overlay=self.overlay, run=self.run, state=self.state
        )
        self._earlier: list[Path] = []
        self.saved = [out / name for name in saved]
        self._to_come = [self.run, *([self.overlay] if overlay else []), *self.saved]
        self._created = False
        with disk_errors(out):
            if content(out):
                self._earlier = self._replaceable(overwrite, inputs)

    def _replaceable(self, overwrite: bool, inputs: tuple[Path, ...]) -> list[Path]:
        """Return the files of earlier runs, which this run may replace."""
        if not overwrite:
            raise UserError(
                f"{self.out} is not empty",
                "choose another --out, or replace the earlier results in it with --overwrite",
            )
        earlier = self._written.of_earlier_runs()
        if earlier is None:
            raise UserError(
                f"{self.out} holds files that are not of an earlier run", "choose another --out"
            )
        if self.masks.is_symlink():
            raise UserError(
                f"{self.masks} is a link, and nothing is removed behind one", "choose another --out"
            )
        for path in self._to_come:
            if os.path.lexists(path) and path not in earlier:
                raise _not_ours(path)
        ours = {path.resolve() for path in (self.masks, self.overlay, self.run, *self.saved)}
        for path in inputs:
            if {path.resolve(), *path.resolve().parents} & ours:
                raise UserError(
                    f"{path} is an input and would be overwritten", "choose another --out"
                )
        return earlier

    def create(self) -> None:
        """Make the folder of masks, and remove earlier runs' files.

        Raises:
            UserError: it cannot be written.
        """
        self._created = True
        with disk_errors(self.out):
            self._written.begin([*self._earlier, *self._to_come])
            self.masks.mkdir(exist_ok=True)
            for path in self.kept:
                self._written.add_mask(path)
            for path in set(self._earlier).difference(self.kept, [self.state] * bool(self.kept)):
                _remove(path)

    def discard(self) -> None:
        """Remove the files of this run, and the folder of masks if nothing else is in it.

        Where it went on with an earlier run's masks all stays, to be gone on with once more.
        """
        if not self._created or self.kept:
            return
        for path in self._written.of_earlier_runs() or ():
            _remove(path)
        with suppress(OSError):
            self.masks.rmdir()
        self._written.end()

    def mask(self, name: str) -> Path:
        """Return the path of a frame's mask."""
        return self.masks / f"{name}.png"

    def write_state(self, state: RunState) -> None:
        """Write what this run could go on from.

        Raises:
            UserError: it cannot be written.
        """
        with disk_errors(self.out):
            state.write(self.state)

    def write_mask(self, name: str, labels: Labels, palette: bytes) -> None:
        """Write the mask of a frame.

        Raises:
            UserError: it cannot be written, or another file has its name.
        """
        path = self.mask(name)
        with disk_errors(self.out):
            if os.path.lexists(path):
                raise _not_ours(path)
            self._written.add_mask(path)
            write_mask(path, labels, palette)

    def write_run(self, facts: dict[str, Any]) -> None:
        """Write ``run.json`` under a temporary name and rename it.

        Raises:
            UserError: it cannot be written; nothing is left of it.
        """
        facts = {
            **facts,
            "saved": [path.name for path in self.saved if path.exists()],
            "mask_names": self._written.mask_names,
        }
        text = json.dumps(facts, indent=2, ensure_ascii=False) + "\n"
        with disk_errors(self.out):
            # What is no text, as bytes in a name, is escaped as JSON does it.
            write_atomically(self.run, text.encode(errors="backslashreplace"))
            self._written.end()
            if facts["complete"]:
                self.state.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.with_name(f"{path.name}.part").unlink(missing_ok=True)


def _not_ours(path: Path) -> UserError:
    return UserError(
        f"{path} was not written by an earlier run", "move it away, or choose another --out"
    )


class Save(NamedTuple):
    """What a run makes besides masks and overlay.

    Args:
        formats: names of :data:`~s2svos.saving.formats.FORMATS`.
        objects: ids, rising, of all that may occur.
        names: what objects are called, by id.
        refine: have soft edges follow those of the picture.
    """

    formats: tuple[str, ...] = ()
    objects: tuple[int, ...] = ()
    names: Mapping[int, str] = MappingProxyType({})
    refine: bool = False


class FolderOutput:
    """Masks as files, the overlay, other formats and ``run.json`` in a folder.

    Args:
        results: the folder.
        palette: of the masks, 768 bytes.
        overlay: whether to make one.
        save: what else to make.

    Attributes:
        place: path of the masks.
    """

    def __init__(
        self, results: ResultsFolder, palette: bytes, *, overlay: bool, save: Save | None = None
    ) -> None:
        self.place = str(results.masks)
        self._results = results
        self._palette = palette
        self._wanted, self._save = overlay, save or Save()
        self._writer: Sink[Callable[[], None]] = Sink(lambda write: write(), name=self.place)
        self._masks = len(results.kept)
        self._encoder: VideoWriter | None = None
        self._painter: Sink[SavedFrame] | None = None
        self._savers: Savers | None = None
        self._saver: Sink[SavedFrame] | None = None
        self._closing = 0.0

    @property
    def soft(self) -> bool:
        """Whether probabilities are wanted."""
        return is_soft(self._save.formats)

    @property
    def shows(self) -> bool:
        """Whether frames are wanted besides their masks."""
        return self._wanted or bool(self._save.formats)

    @property
    def overlay(self) -> Path | None:
        """Path of the finished overlay; None if there is none."""
        return self._results.overlay if self._results.overlay.exists() else None

    @property
    def done(self) -> int:
        """Number of masks that are written."""
        return self._masks

    @property
    def seconds(self) -> float:
        """Seconds in which masks were written."""
        return self._writer.seconds

    @property
    def overlay_seconds(self) -> float:
        """Seconds in which the overlay was painted, encoded and closed."""
        return (self._painter.seconds if self._painter else 0.0) + self._closing

    def begin(self, video: Video | IncomingVideo) -> None:
        """Make the folder, and open the overlay in it.

        Raises:
            UserError: it cannot be written.
        """
        self._results.create()
        if self._save.formats:
            self._begin_saving(video)
        if not self._wanted:
            return
        path = self._results.overlay
        with disk_errors(self._results.out):
            self._encoder = VideoWriter.like(video, path)
        self._painter = Sink(self._paint, name=str(path))

    def _begin_saving(self, video: Video | IncomingVideo) -> None:
        saved = SavedVideo(
            path=Path(video.path),
            width=video.width,
            height=video.height,
            rate=video.rate,
            time_base=video.time_base,
            pixel_aspect=video.pixel_aspect,
            objects=self._save.objects,
            names=self._save.names,
            palette=self._palette,
        )
        self._savers = Savers(
            self._save.formats, self._results.out, saved, refine=self._save.refine
        )
        self._saver = Sink(self._savers.write, name=str(self._results.out))

    def put(self, shown: SavedFrame) -> None:
        """Take a frame's mask; raise the error of an earlier one."""
        self._writer.put(partial(self._write, shown.name, shown.ids))
        self._show(shown)

    def put_again(self, shown: SavedFrame) -> None:
        """Take a frame whose mask an earlier run wrote, for the overlay and other formats."""
        ids, _ = read_ids(self._results.mask(shown.name))
        self._show(dataclasses.replace(shown, ids=ids))

    def put_state(self, state: RunState) -> None:
        """Write a state once the masks that were put before are written."""
        self._writer.put(partial(self._results.write_state, state))

    def _show(self, shown: SavedFrame) -> None:
        if self._painter:
            self._painter.put(shown)
        if self._saver:
            self._saver.put(shown)

    def finish(self) -> list[UserError]:
        """Write what was put and end; return all errors."""
        stages = (self._writer, self._painter, self._saver)
        failures = [stage.drain() for stage in stages if stage]
        if self._savers:
            failures.append(self._closed(self._savers))
        if self._encoder:
            began = time.perf_counter()
            try:
                with disk_errors(self._results.out):
                    self._encoder.close(keep=self.done > 0)
            except UserError as failed:
                failures.append(failed)
            except Exception as error:  # of whatever type the encoder has
                failures.append(StageFailed.of(f"Finishing {self._results.overlay}", error))
            self._closing = time.perf_counter() - began
        return [failure for failure in failures if failure]

    def _closed(self, savers: Savers) -> UserError | None:
        """Finish the other formats; return the error of one that cannot be."""
        try:
            savers.close(keep=self.done > 0)
        except UserError as failed:
            return failed
        except Exception as error:  # of whatever type an encoder has
            return StageFailed.of(f"Finishing the files in {self._results.out}", error)
        return None

    def discard(self) -> None:
        """Remove what was begun; for a run without a mask."""
        with disk_errors(self._results.out):
            self._results.discard()

    def conclude(self, facts: dict[str, Any]) -> None:
        """Write ``run.json``."""
        self._results.write_run(facts)

    def _write(self, name: str, labels: Labels) -> None:
        self._results.write_mask(name, labels, self._palette)
        self._masks += 1

    def _paint(self, shown: SavedFrame) -> None:
        assert self._encoder is not None
        with disk_errors(self._results.out):
            painted = paint(shown.frame, shown.ids, self._palette)
            self._encoder.write(painted, at=shown.time)


class PipeOutput:
    """Masks as bytes, one a pixel and nothing between: uint8 [H, W] ids, rows from top to bottom.

    Args:
        file: unbuffered, so that a mask is on its way as soon as it is made.
    """

    soft = shows = False
    overlay = None
    overlay_seconds = 0.0
    place = "standard output"

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._writer = Sink(self._write, name=self.place)

    @property
    def done(self) -> int:
        """Number of masks that are written."""
        return self._writer.done

    @property
    def seconds(self) -> float:
        """Seconds in which masks were written, or their reader was waited for."""
        return self._writer.seconds

    def begin(self, video: Video | IncomingVideo) -> None:
        """Do nothing: nothing is written ahead of the masks."""

    def put(self, shown: SavedFrame) -> None:
        """Take a frame's mask; raise the error of an earlier one."""
        self._writer.put(shown.ids)

    def put_state(self, state: RunState) -> None:
        """Do nothing: what went into a pipe is not taken up again."""

    def put_again(self, shown: SavedFrame) -> None:
        """Do nothing."""

    def finish(self) -> list[UserError]:
        """Write what was put; return its error, if there is one."""
        failure = self._writer.drain()
        return [failure] if failure else []

    def discard(self) -> None:
        """Do nothing: what was not written need not be removed."""

    def conclude(self, facts: dict[str, Any]) -> None:
        """Do nothing: nothing is written behind the masks."""

    def _write(self, labels: Labels) -> None:
        rest = np.ascontiguousarray(labels).data.cast("B")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BrokenPipeError as error:
            raise OutputClosed(
                "The program that read the masks from standard output has stopped reading."
            ) from error
        except OSError as error:
            raise UserError(
                f"Standard output cannot be written ({error.strerror})", "send it elsewhere"
            ) from error
