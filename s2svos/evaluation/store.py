"""The folder of an evaluation: finished videos stay finished, whatever ends the run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.scores import VideoScore
from s2svos.evaluation.videos import fingerprint
from s2svos.locks import content
from s2svos.video.masks import davis_palette, write_mask
from s2svos_engines.arrays import Labels
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, is_plain_name, write_atomically

GO_ON = "run the same command again to go on"
"""The remedy for files of an evaluation that cannot be written."""

_SETTINGS = "evaluation.json"
_PART = f"{_SETTINGS}.part"
_VIDEOS = "videos"
_KEYS = {"network", "engine", "data"}  # of every evaluation.json
_SUMMARY = "results.json", "results.csv", "j_over_time.png", "worst.png", "submission.zip"


@dataclass(frozen=True)
class Store:
    """``evaluation.json``, and for each finished video ``masks/NAME/`` and ``videos/NAME.json``.

    ``evaluation.json`` names the videos too: files of other names are nobody's business, and stay.

    A video is finished once its JSON file is there, which is written last and holds a key made of
    the settings and the video's own files; a result with another key is not used.

    Args:
        out: the folder.
        settings: all that results depend on besides the videos; JSON types.
    """

    out: Path
    settings: Mapping[str, Any]

    @property
    def masks(self) -> Path:
        """Folder of the folders of masks."""
        return self.out / "masks"

    def begin(self, videos: Sequence[VideoFiles], *, overwrite: bool) -> None:
        """Make the folder, or go on with an earlier run's, and remove what is stale.

        Args:
            videos: that are to be evaluated.
            overwrite: results of other settings may be replaced.

        Raises:
            UserError: it holds something else, results of other settings, or cannot be written.
        """
        with disk_errors(self.out, again=GO_ON):
            earlier = self._check(overwrite)
            self.out.mkdir(parents=True, exist_ok=True)
            names = [video.name for video in videos]
            stale = [name for name in self._videos_of(earlier or {}) if name not in names]
            # The earlier ones are named until they are gone.
            self._write_settings([*names, *stale])
            for folder in (self.masks, self.out / "videos"):
                folder.mkdir(exist_ok=True)
            for name in _SUMMARY:
                (self.out / name).unlink(missing_ok=True)
            for name in stale:
                self._remove(name)
            self._write_settings(names)
        self.remove_stale(videos)

    def remove_stale(self, videos: Sequence[VideoFiles]) -> None:
        """Remove what there is of those of the videos that are not finished.

        Raises:
            UserError: the folder cannot be written.
        """
        with disk_errors(self.out, again=GO_ON):
            for video in videos:
                if not self.load(video):
                    self._remove(video.name)

    def load(self, video: VideoFiles) -> VideoScore | None:
        """Return the result of a video, None if there is none for these settings and files."""
        try:
            data = json.loads((self.out / "videos" / f"{video.name}.json").read_text("utf-8"))
            if data["key"] == self.key(video) and (self.masks / video.name).is_dir():
                return VideoScore.from_json(data["score"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # never finished, or not by this version
        return None

    @contextmanager
    def record(self, video: VideoFiles) -> Iterator[Recording]:
        """Give a place for the masks and the score of a video; nothing is left of it on an error.

        Raises:
            UserError: the folder cannot be written.
        """
        recording = Recording(self, video)
        try:
            with disk_errors(self.out, again=GO_ON):
                _remove_masks(recording.part)
                recording.part.mkdir()
            yield recording
        except BaseException:
            with suppress(OSError):
                self._remove(video.name)
            raise

    def key(self, video: VideoFiles) -> str:
        """Return a digest of the settings and of a video's files."""
        facts = json.dumps([dict(self.settings), fingerprint(video)], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    def _check(self, overwrite: bool) -> dict[str, Any] | None:
        """Return the settings of an earlier evaluation, None if the folder is empty."""
        earlier = self._earlier()
        if earlier is None:
            # The settings are the first file of a run.
            if self.out.is_dir() and {path.name for path in content(self.out)} - {_PART}:
                raise UserError(
                    f"{self.out} holds something else than an evaluation", "choose another --out"
                )
            return None
        for folder in (self.masks, self.out / "videos"):
            if folder.is_symlink():
                raise UserError(
                    f"{folder} is a link, and nothing is removed behind one", "choose another --out"
                )
        differing = [key for key, value in self.settings.items() if earlier.get(key) != value]
        if differing and not overwrite:
            key = differing[0]
            raise UserError(
                f"{self.out} holds an evaluation with another {key} ({earlier.get(key)}, now "
                f"{self.settings[key]})",
                "choose another --out, or replace it with --overwrite",
            )
        return earlier

    def _earlier(self) -> dict[str, Any] | None:
        """Read the settings of an earlier evaluation, None if the folder holds none."""
        try:
            earlier = json.loads((self.out / _SETTINGS).read_text("utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None
        return earlier if isinstance(earlier, dict) and earlier.keys() >= _KEYS else None

    def _videos_of(self, earlier: Mapping[str, Any]) -> list[str]:
        """Return the names of an earlier evaluation's videos."""
        named = earlier.get(_VIDEOS)
        if isinstance(named, list):
            return [name for name in named if isinstance(name, str) and is_plain_name(name)]
        # Of an earlier version: the finished ones have a file, and the one in work a folder.
        files = [path.stem for path in (self.out / "videos").glob("*.json*")]
        folders = [path.name for path in self.masks.glob("*.part")]
        return [name.removesuffix(".json").removesuffix(".part") for name in (*files, *folders)]

    def _write_settings(self, videos: Sequence[str]) -> None:
        _write_json(self.out / _SETTINGS, {**self.settings, _VIDEOS: list(videos)})

    def _remove(self, video: str) -> None:
        """Remove the score and the masks of a video, the score first: it says that they are whole.

        Raises:
            OSError: they cannot be removed.
        """
        for suffix in ("json", "json.part"):
            (self.out / "videos" / f"{video}.{suffix}").unlink(missing_ok=True)
        for name in (video, f"{video}.part"):
            _remove_masks(self.masks / name)


@dataclass(frozen=True)
class Recording:
    """The masks and the score of a video that is being evaluated.

    Args:
        store: that takes them.
        video: that is evaluated.
    """

    store: Store
    video: VideoFiles

    @property
    def part(self) -> Path:
        """Folder of the masks until the video is finished."""
        return self.store.masks / f"{self.video.name}.part"

    @property
    def final(self) -> Path:
        """Folder of the masks of the finished video."""
        return self.store.masks / self.video.name

    def save_mask(self, stem: str, labels: Labels) -> None:
        """Write the ids of a frame, uint8 [H, W].

        Raises:
            UserError: the folder cannot be written.
        """
        with disk_errors(self.store.out, again=GO_ON):
            write_mask(self.part / f"{stem}.png", labels, davis_palette())

    def finish(self, score: VideoScore) -> None:
        """Write the score, last of all.

        Raises:
            UserError: the folder cannot be written.
        """
        with disk_errors(self.store.out, again=GO_ON):
            _remove_masks(self.final)
            self.part.rename(self.final)
            data = {"key": self.store.key(self.video), "score": score.to_json()}
            _write_json(self.store.out / "videos" / f"{self.video.name}.json", data)


def _remove_masks(folder: Path) -> None:
    """Remove a folder of masks; what else is in it stays, and then so does the folder."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for pattern in ("*.png", "*.png.part"):
        for path in folder.glob(pattern):
            path.unlink()
    if not any(folder.iterdir()):
        folder.rmdir()


def _write_json(path: Path, data: Any) -> None:
    write_atomically(path, json.dumps(data).encode())
