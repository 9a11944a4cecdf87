"""The folder of an evaluation: what is done stays done, whatever ends the run."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.scores import VideoScore
from s2svos.evaluation.videos import Ids, fingerprint
from s2svos.video.masks import davis_palette, write_mask
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, write_atomically

Keep = Callable[[str, Ids], None]

_SETTINGS = "evaluation.json"
_PART = f"{_SETTINGS}.part"
_SUMMARY = "results.json", "results.csv", "j_over_time.png", "worst.png", "submission.zip"


def writing(out: Path) -> AbstractContextManager[None]:
    """Says in a sentence why a file of an evaluation could not be written.

    Raises:
        UserError: in place of an OSError.
    """
    return disk_errors(out, again="run the same command again to go on")


@dataclass(frozen=True)
class Store:
    """``evaluation.json``, and for each finished video ``masks/NAME/`` and ``videos/NAME.json``.

    A video is finished once its JSON file is there, which is written last and holds a key made of
    the settings and the video's own files; a result whose key is another one is not used.

    Args:
        out: the folder.
        settings: what results depend on besides the videos; JSON types.
    """

    out: Path
    settings: Mapping[str, Any]

    @property
    def masks(self) -> Path:
        """Folder of the folders of masks."""
        return self.out / "masks"

    def claim(self, videos: list[VideoFiles], *, overwrite: bool) -> None:
        """Makes the folder, or takes an earlier run's, and clears what is stale.

        Args:
            videos: that are to be evaluated.
            overwrite: results of other settings may be replaced.

        Raises:
            UserError: it holds something else, results of other settings, or cannot be written.
        """
        with writing(self.out):
            self._check(overwrite)
            self.out.mkdir(parents=True, exist_ok=True)
            self._write_json(self.out / _SETTINGS, dict(self.settings))
            for folder in (self.masks, self.out / "videos"):
                folder.mkdir(exist_ok=True)
            for name in _SUMMARY:
                (self.out / name).unlink(missing_ok=True)
        self.clear(videos)

    def clear(self, videos: list[VideoFiles]) -> None:
        """Takes away all but the finished results of these videos.

        Raises:
            UserError: the folder cannot be written.
        """
        with writing(self.out):
            done = {video.name for video in videos if self.load(video)}
            for stale in (self.out / "videos").iterdir():
                if stale.suffix != ".json" or stale.stem not in done:
                    stale.unlink()
            for stale in self.masks.iterdir():
                if stale.name not in done:
                    shutil.rmtree(stale)

    def load(self, video: VideoFiles) -> VideoScore | None:
        """The result of a video, None where there is none for these settings and files."""
        try:
            data = json.loads((self.out / "videos" / f"{video.name}.json").read_text("utf-8"))
            if data["key"] == self._key(video) and (self.masks / video.name).is_dir():
                return VideoScore.from_json(data["score"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # never finished, or not by this version
        return None

    def record(self, video: VideoFiles, evaluate: Callable[[Keep], VideoScore]) -> VideoScore:
        """Evaluates a video and keeps masks and score; if it ends early, nothing is left of them.

        Args:
            video: that is evaluated.
            evaluate: does it; is given what takes the stem and the ids, uint8 [H, W], of a frame.

        Raises:
            UserError: what ``evaluate`` raised, or the folder cannot be written.
        """
        part, final = self.masks / f"{video.name}.part", self.masks / video.name

        def keep(stem: str, ids: Ids) -> None:
            with writing(self.out):
                write_mask(part / f"{stem}.png", ids, davis_palette())

        try:
            with writing(self.out):
                shutil.rmtree(part, ignore_errors=True)
                part.mkdir()
            score = evaluate(keep)
            with writing(self.out):
                shutil.rmtree(final, ignore_errors=True)
                part.rename(final)
                data = {"key": self._key(video), "score": score.to_json()}
                self._write_json(self.out / "videos" / f"{video.name}.json", data)
        except BaseException:
            for folder in (part, final):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        return score

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
                (
                    f"{self.out} holds an evaluation with another {key} ({earlier.get(key)}, now "
                    f"{self.settings[key]})"
                ),
                "choose another --out, or replace it with --overwrite",
            )

    def _earlier(self) -> dict[str, Any] | None:
        """The settings of what the folder holds, None if that is no evaluation."""
        try:
            earlier = json.loads((self.out / _SETTINGS).read_text("utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return earlier if isinstance(earlier, dict) else None

    def _key(self, video: VideoFiles) -> str:
        facts = json.dumps([dict(self.settings), fingerprint(video)], sort_keys=True)
        return hashlib.sha256(facts.encode()).hexdigest()

    @staticmethod
    def _write_json(path: Path, data: Any) -> None:
        write_atomically(path, json.dumps(data).encode())
