"""The formats by the names that the command line has for them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from s2svos.saving.frame import SavedFrame, SavedVideo, Saver
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors


@dataclass(frozen=True)
class Format:
    """A format.

    Args:
        text: what it is.
        maker: of a file of it: a name in a module of this package, which is imported when it is
            needed, since all of them take 24 ms of a run's start.
        soft: it shows edges as soft as the network gives them.
        each: a file an object, whose names have the object's id.
    """

    text: str
    maker: str
    soft: bool = False
    each: bool = False

    def open(self, path: Path, video: SavedVideo, refine: bool) -> Saver:
        """Begin a file, with edges refined where the format has soft ones in a video."""
        module, _, name = self.maker.partition(".")
        make = getattr(import_module(f"s2svos.saving.{module}"), name)
        options = {"refine": refine} if module == "movies" else {}
        return cast("Saver", make(path, video, **options))


FORMATS = {
    "alpha.mov": Format("ProRes 4444 with the objects' alpha", "movies.alpha_movie", soft=True),
    "alpha.webm": Format("VP9 with the objects' alpha", "movies.alpha_movie", soft=True),
    "layers.mov": Format(
        "layers-ID.mov, an alpha.mov for each object", "movies.layer_movie", soft=True, each=True
    ),
    "matte.mp4": Format("the alpha as a grey H.264", "movies.matte_movie", soft=True),
    "green.mp4": Format("H.264 of the objects on green", "movies.green_movie", soft=True),
    "cutouts.zip": Format("each object as RGBA pictures", "archives.Cutouts", soft=True),
    "coco.json": Format("COCO, run lengths and track ids", "coco.Coco"),
    "youtube-vis.json": Format("YouTube-VIS", "coco.YouTubeVis"),
    "mots.txt": Format("MOTSChallenge", "coco.Mots"),
    "yolo.zip": Format("YOLO's polygons and data.yaml", "archives.Yolo"),
    "labelme.zip": Format("LabelMe's polygons", "archives.LabelMe"),
    "cvat.xml": Format("CVAT for video", "archives.Cvat"),
    "voc.zip": Format("PASCAL VOC", "archives.Voc"),
    "davis.zip": Format("DAVIS 2017", "archives.Davis"),
    "tracks.csv": Format("a row an object and frame: box, area, confidence", "tables.CsvTable"),
    "tracks.parquet": Format("the same for pandas, DuckDB and Spark", "tables.ParquetTable"),
}


def check_formats(names: Sequence[str]) -> None:
    """Check that there are such formats.

    Raises:
        UserError: there is none of a name.
    """
    for name in names:
        if name not in FORMATS:
            raise UserError(f"There is no format {name!r}", f"choose of {', '.join(FORMATS)}")


def is_soft(names: Sequence[str]) -> bool:
    """Return whether one of the formats shows soft edges."""
    return any(FORMATS[name].soft for name in names)


def of_network(names: Sequence[str]) -> list[str]:
    """Return those of the formats that show more than masks can tell: edges, or confidence."""
    return [name for name in names if FORMATS[name].soft or name.startswith("tracks.")]


def files_of(names: Sequence[str], objects: Sequence[int]) -> list[str]:
    """Return the names of the files of formats for objects with these ids."""
    found: list[str] = []
    for name in dict.fromkeys(names):
        stem, dot, suffix = name.partition(".")
        each = [f"{stem}-{one}{dot}{suffix}" for one in objects]
        found += each if FORMATS[name].each else [name]
    return found


class Savers:
    """Several formats in one folder, which get each frame once.

    Args:
        names: of the formats.
        folder: that exists.
        video: that the masks are of.
        refine: have soft edges follow those of the picture.

    Raises:
        UserError: a file cannot be written, or an extra is missing; nothing is left then.
    """

    def __init__(
        self, names: Sequence[str], folder: Path, video: SavedVideo, *, refine: bool = False
    ) -> None:
        self._folder = folder
        self._savers: list[Saver] = []
        try:
            with disk_errors(folder):
                for name in dict.fromkeys(names):
                    for file in files_of([name], video.objects):
                        self._savers.append(FORMATS[name].open(folder / file, video, refine))
        except BaseException:
            with suppress(Exception):
                self.close(keep=False)
            raise

    def write(self, shown: SavedFrame) -> None:
        """Take the next frame.

        Raises:
            UserError: a file cannot be written.
        """
        with disk_errors(self._folder):
            for saver in self._savers:
                saver.write(shown)

    def close(self, *, keep: bool) -> None:
        """Finish all files, or remove what was begun; all, even where one fails.

        Raises:
            UserError: one cannot be finished.
        """
        failed: BaseException | None = None
        for saver in self._savers:
            try:
                with disk_errors(self._folder):
                    saver.close(keep=keep)
            except Exception as error:
                failed = failed or error
        self._savers.clear()
        if failed:
            raise failed
