"""Tracks as a table: a row for each object that is seen on a frame."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from s2svos.extras import needs
from s2svos.saving.frame import SavedFrame, SavedVideo, settle
from s2svos.saving.outlines import objects_of

COLUMNS = {
    "frame": str,
    "time": float,
    "id": int,
    "name": str,
    "area": int,
    "left": int,
    "top": int,
    "width": int,
    "height": int,
    "centre_x": float,
    "centre_y": float,
    "confidence": float,
}
_ROWS = 10_000  # of a table that are written at once


def rows(shown: SavedFrame, video: SavedVideo) -> Iterator[dict[str, Any]]:
    """Yield a row for each object of a frame: pixels, seconds; confidence None if not measured."""
    for one in objects_of(shown.ids):
        place = np.asarray(shown.ids == one, np.uint8)
        left, top, width, height = cv2.boundingRect(place)
        moments = cv2.moments(place, binaryImage=True)
        area = int(moments["m00"])
        sure = shown.confidence.get(one)
        yield {
            "frame": shown.name,
            "time": round(float(shown.time), 6),
            "id": one,
            "name": video.name(one),
            "area": area,
            "left": left,
            "top": top,
            "width": width,
            "height": height,
            "centre_x": round(moments["m10"] / area, 2),
            "centre_y": round(moments["m01"] / area, 2),
            "confidence": None if sure is None else round(sure, 4),
        }


class CsvTable:
    """``tracks.csv``: see :data:`COLUMNS`."""

    def __init__(self, path: Path, video: SavedVideo) -> None:
        self._path, self._video = path, video
        self._part = path.with_name(f"{path.name}.part")
        self._file = self._part.open("w", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._file, list(COLUMNS))
        self._writer.writeheader()

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        self._writer.writerows(rows(shown, self._video))

    def close(self, *, keep: bool) -> None:
        """Finish the file, or remove it."""
        self._file.close()
        settle(self._part, self._path, keep=keep)


class ParquetTable:
    """``tracks.parquet``: see :data:`COLUMNS`."""

    def __init__(self, path: Path, video: SavedVideo) -> None:
        with needs("parquet"):
            import pyarrow as pa
            import pyarrow.parquet as pq
        types = {str: pa.string(), float: pa.float64(), int: pa.int64()}
        self._schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
        self._table = pa.Table
        self._path, self._video = path, video
        self._part = path.with_name(f"{path.name}.part")
        self._writer = pq.ParquetWriter(self._part, self._schema)
        self._rows: list[dict[str, Any]] = []

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame."""
        self._rows.extend(rows(shown, self._video))
        if len(self._rows) >= _ROWS:
            self._flush()

    def close(self, *, keep: bool) -> None:
        """Finish the file, or remove it."""
        if keep:
            self._flush()
        self._writer.close()
        settle(self._part, self._path, keep=keep)

    def _flush(self) -> None:
        self._writer.write_table(self._table.from_pylist(self._rows, self._schema))
        self._rows.clear()
