"""The folder of an evaluation: finished videos stay finished, whatever ends the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.scores import VideoScore
from s2svos.evaluation.videos import fingerprint
from s2svos.video.masks import davis_palette, write_mask
from s2svos_engines.arrays import Labels
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, write_atomically

GO_ON = "run the same command again to go on"
"""The remedy for files of an evaluation that cannot be written."""

_SETTINGS = "evaluation.json"
_PART = f"{_SETTINGS}.part"
_SUMMARY = "results.json", "results.csv", "j_over_time.png", "worst.png", "submission.zip"


@dataclass(frozen=True)
class Store:
    """``evaluation.json``, and for each finished video ``masks/NAME/`` and ``videos/NAME.json``.

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
            self._check(overwrite)
            self.out.mkdir(parents=True, exist_ok=True)
            _write_json(self.out / _SETTINGS, dict(self.settings))
            for folder in (self.masks, self.out / "videos"):
                folder.mkdir(exist_ok=True)
            for name in _SUMMARY:
                (self.out / name).unlink(missing_ok=True)
        self.remove_stale(videos)

    def remove_stale(self, videos: Sequence[VideoFiles]) -> None:
        """Remove everything but the finished results of these videos.

        Raises:
            UserError: the folder cannot be written.
        """
        with disk_errors(self.out, again=GO_ON):
            done = {video.name for video in videos if self.load(video)}
            for stale in (self.out / "videos").iterdir():
                if stale.suffix != ".json" or stale.stem not in done:
                    stale.unlink()
            for stale in self.masks.iterdir():
                if stale.name not in done:
                    shutil.rmtree(stale)

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
                shutil.rmtree(recording.part, ignore_errors=True)
                recording.part.mkdir()
            yield recording
        except BaseException:
            for folder in (recording.part, recording.final):
                shutil.rmtree(folder, ignore_errors=True)
            raise

    def key(self, video: VideoFiles) -> str:
        """Return a digest of the settings and of a video's files."""
        facts = json.dumps([dict(self.settings), fingerprint(video)], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    def _check(self, overwrite: bool) -> None:
        if self.out.exists() and not self.out.is_dir():
            raise UserError(f"{self.out} is a file, no folder", "choose another --out")
        earlier = self._earlier()
        if earlier is None:
            # The settings are the first file of a run.
            if self.out.is_dir() and {path.name for path in self.out.iterdir()} - {_PART}:
                raise UserError(
                    f"{self.out} holds something else than an evaluation", "choose another --out"
                )
            return
        differing = [key for key, value in self.settings.items() if earlier.get(key) != value]
        if differing and not overwrite:
            key = differing[0]
            raise UserError(
                f"{self.out} holds an evaluation with another {key} ({earlier.get(key)}, now "
                f"{self.settings[key]})",
                "choose another --out, or replace it with --overwrite",
            )

    def _earlier(self) -> dict[str, Any] | None:
        """Read the settings of an earlier evaluation, None if the folder holds none."""
        try:
            earlier = json.loads((self.out / _SETTINGS).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return earlier if isinstance(earlier, dict) else None


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
            shutil.rmtree(self.final, ignore_errors=True)
            self.part.rename(self.final)
            data = {"key": self.store.key(self.video), "score": score.to_json()}
            _write_json(self.store.out / "videos" / f"{self.video.name}.json", data)


def _write_json(path: Path, data: Any) -> None:
    write_atomically(path, json.dumps(data).encode())
