"""The folder that a run writes: ``masks/``, ``overlay.mp4`` and ``run.json``.

The last stages of a run, which take masks: a folder of results, or a pipe."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2svos.pipeline import OutputClosed, Sink
from s2svos.video.incoming import IncomingVideo
from s2svos.video.masks import write_mask
from s2svos.video.overlay import paint
from s2svos.video.reader import Video
from s2svos.video.writer import VideoWriter
from s2svos_engines.errors import UserError


@contextmanager
def disk_errors(out: Path, *, again: str = "run again with --overwrite") -> Iterator[None]:
    """Says in a sentence why a file could not be written.

    Args:
        out: what was written to.
        again: what to do once there is space.

    Raises:
        UserError: in place of an OSError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = f"the disk is full; free some space and {again}"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "permission is denied; choose another --out"
        else:
            hint = f"{error.strerror or error}; choose another --out"
        raise UserError(f"{out} cannot be written: {hint}.") from error


class Results:
    """An output folder that leaves nothing behind until there is a result.

    Args:
        out: the folder; missing or empty, unless ``overwrite``.
        overwrite: replace an earlier run's files; others in the folder stay.
        inputs: files and folders that must not be among the replaced.

    Attributes:
        masks, overlay, run: paths of what is written.

    Raises:
        UserError: the folder may not be used.
    """

    def __init__(self, out: Path, *, overwrite: bool, inputs: tuple[Path, ...] = ()) -> None:
        self.out = out
        self.masks = out / "masks"
        self.overlay = out / "overlay.mp4"
        self.run = out / "run.json"
        self._made: list[Path] = []
        self._created = False
        with disk_errors(out):
            self._check(overwrite, inputs)

    def _check(self, overwrite: bool, inputs: tuple[Path, ...]) -> None:
        existing = next(path for path in (self.out, *self.out.absolute().parents) if path.exists())
        if not existing.is_dir():
            raise UserError(f"{existing} is a file, no folder", "choose another --out")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, "permission denied", str(existing))
        if existing is self.out and any(self.out.iterdir()):
            if not overwrite:
                raise UserError(
                    f"{self.out} is not empty",
                    "choose another --out, or replace the earlier results in it with --overwrite",
                )
            ours = self.masks.resolve(), self.overlay.resolve(), self.run.resolve()
            for path in inputs:
                if {path.resolve(), *path.resolve().parents} & {*ours}:
                    raise UserError(
                        f"{path} is an input and would be overwritten", "choose another --out"
                    )

    def create(self) -> None:
        """Makes the folder and clears an earlier run's files out of it.

        Raises:
            UserError: it cannot be written.
        """
        self._created = True
        with disk_errors(self.out):
            missing = [path for path in (self.masks, *self.masks.parents) if not path.exists()]
            for path in reversed(missing):
                path.mkdir()
                self._made.append(path)
            self._clear()

    def discard(self) -> None:
        """Takes away the files of this run and every folder that it made."""
        if not self._created:
            return
        self._clear()
        for path in reversed(self._made):
            path.rmdir()
        self._made.clear()

    def write_run(self, facts: dict[str, Any]) -> None:
        """Writes ``run.json`` under a temporary name and renames it.

        Raises:
            UserError: it cannot be written; nothing is left of it.
        """
        part = self.run.with_name("run.json.part")
        with disk_errors(self.out):
            try:
                part.write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", "utf-8")
                part.replace(self.run)
            except OSError:
                part.unlink(missing_ok=True)
                raise

    def _clear(self) -> None:
        for path in (*self.masks.glob("*.png"), *self.masks.glob("*.png.part")):
            path.unlink()
        for path in (self.overlay, self.run):
            path.unlink(missing_ok=True)
            path.with_name(f"{path.name}.part").unlink(missing_ok=True)


Frame = NDArray[np.uint8]  # [H, W, 3] RGB
Ids = NDArray[np.uint8]  # [H, W] object ids, 0 for the background


class FolderOutput:
    """Masks as files, the overlay and ``run.json`` in a folder.

    Args:
        results: the folder.
        palette: of the masks, 768 bytes.
        overlay: whether to make one.

    Attributes:
        place: where the masks are.
    """

    def __init__(self, results: Results, palette: bytes, *, overlay: bool) -> None:
        self.place = str(results.masks)
        self._results = results
        self._palette = palette
        self._wanted = overlay
        self._writer: Sink[tuple[str, Ids]] = Sink(self._write, name=self.place)
        self._encoder: VideoWriter | None = None
        self._painter: Sink[tuple[int | None, Frame, Ids]] | None = None
        self._live = False
        self._closing = 0.0

    @property
    def overlay(self) -> Path | None:
        """Path of the finished overlay; None if there is none."""
        return self._results.overlay if self._results.overlay.exists() else None

    @property
    def done(self) -> int:
        """Masks that are written."""
        return self._writer.done

    @property
    def seconds(self) -> float:
        """In which masks were written."""
        return self._writer.seconds

    @property
    def overlay_seconds(self) -> float:
        """In which the overlay was painted, encoded and closed."""
        return (self._painter.seconds if self._painter else 0.0) + self._closing

    def begin(self, video: Video | IncomingVideo) -> None:
        """Makes the folder, and the overlay in it.

        Raises:
            UserError: it cannot be written.
        """
        self._results.create()
        self._live = video.live
        if not self._wanted:
            return
        path = self._results.overlay
        with disk_errors(self._results.out):
            self._encoder = VideoWriter(
                path, width=video.width, height=video.height, rate=video.rate
            )
        self._painter = Sink(self._paint, name=str(path))

    def put(self, name: str, frame: Frame, ids: Ids) -> None:
        """Takes a frame's mask; raises what went wrong with an earlier one."""
        self._writer.put((name, ids))
        if self._painter:
            # A live video's names count its frames: those that were dropped leave a gap in time.
            self._painter.put((int(name) if self._live else None, frame, ids))

    def finish(self) -> list[UserError]:
        """Writes what was put and ends; gives all that went wrong."""
        failures = [self._writer.drain(), self._painter and self._painter.drain()]
        if self._encoder:
            began = time.perf_counter()
            try:
                with disk_errors(self._results.out):
                    self._encoder.close(keep=self.done > 0)
            except UserError as failed:
                failures.append(failed)
            self._closing = time.perf_counter() - began
        return [failure for failure in failures if failure]

    def discard(self) -> None:
        """Takes away what was begun; for a run without a mask."""
        with disk_errors(self._results.out):
            self._results.discard()

    def conclude(self, facts: dict[str, Any]) -> None:
        """Writes ``run.json``."""
        self._results.write_run(facts)

    def _write(self, item: tuple[str, Ids]) -> None:
        name, ids = item
        with disk_errors(self._results.out):
            write_mask(self._results.masks / f"{name}.png", ids, self._palette)

    def _paint(self, item: tuple[int | None, Frame, Ids]) -> None:
        at, frame, ids = item
        assert self._encoder is not None
        with disk_errors(self._results.out):
            self._encoder.write(paint(frame, ids, self._palette), at=at)


class PipeOutput:
    """Masks as bytes, one a pixel and nothing between: uint8 [H, W] ids, rows from top to bottom.

    Args:
        file: unbuffered, so that a mask is on its way as soon as it is made.
    """

    overlay = None
    overlay_seconds = 0.0
    place = "standard output"

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self._writer = Sink(self._write, name=self.place)

    @property
    def done(self) -> int:
        """Masks that are written."""
        return self._writer.done

    @property
    def seconds(self) -> float:
        """In which masks were written, or whoever reads them was waited for."""
        return self._writer.seconds

    def begin(self, video: Video | IncomingVideo) -> None:
        """Nothing is written ahead of the masks."""

    def put(self, name: str, frame: Frame, ids: Ids) -> None:
        """Takes a frame's mask; raises what went wrong with an earlier one."""
        self._writer.put(ids)

    def finish(self) -> list[UserError]:
        """Writes what was put; gives what went wrong."""
        failure = self._writer.drain()
        return [failure] if failure else []

    def discard(self) -> None:
        """What has not been written need not be taken away."""

    def conclude(self, facts: dict[str, Any]) -> None:
        """Nothing is written behind the masks."""

    def _write(self, ids: Ids) -> None:
        rest = np.ascontiguousarray(ids).data.cast("B")
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except BrokenPipeError as error:
            raise OutputClosed(
                "Whoever read the masks from standard output has stopped reading."
            ) from error
        except OSError as error:
            raise UserError(
                f"Standard output cannot be written ({error.strerror})", "send it elsewhere"
            ) from error
