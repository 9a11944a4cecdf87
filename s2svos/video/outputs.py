"""The last stages of a run, which take masks: a folder of results, or a pipe."""

from __future__ import annotations

import time
from io import FileIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from s2svos.video.errors import OutputClosed
from s2svos.video.incoming import IncomingVideo
from s2svos.video.masks import write_mask
from s2svos.video.overlay import paint
from s2svos.video.read import Video
from s2svos.video.results import Results, disk_errors
from s2svos.video.stages import Sink
from s2svos.video.write import VideoWriter
from s2svos_engines.errors import UserError

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
                f"Standard output cannot be written ({error.strerror}); send it elsewhere."
            ) from error
