"""Data sets mixed by weight: what the trainer draws its clips from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from s2svos.data import layouts
from s2svos.data.clips import Clip, ClipSource
from s2svos.data.config import DataConfig, DataKind
from s2svos.data.faults import BadFile, Faults
from s2svos.data.stills import StillClips
from s2svos.data.synthetic import SyntheticClips
from s2svos.data.videos import LEAST_SHARE, VideoClips
from s2svos_engines.errors import UserError

TRIES = 10  # clips drawn until one shows its object
MOST_FAULTS = 100  # files in a row that cannot be used


class _Set(ClipSource, Protocol):
    def facts(self) -> dict[str, Any]: ...


class Mixture:
    """Draws from several data sets by weight; files that cannot be used are passed over.

    Args:
        sets: each with what draws its clips.
        faults: where files that cannot be used are noted.

    Attributes:
        faults: what was noted in this process.
    """

    def __init__(self, sets: Sequence[tuple[DataConfig, _Set]], faults: Faults) -> None:
        self.sets, self.faults = sets, faults
        weights = np.array([config.weight for config, _ in sets])
        self.weights = weights / weights.sum()

    @property
    def skipped(self) -> dict[str, int]:
        """How many files of each data set could not be used."""
        roots = {config.root: config.label for config, _ in self.sets if config.root}
        return dict(
            Counter(
                next((label for root, label in roots.items() if path.is_relative_to(root)), "")
                for path in self.faults.found
            )
        )

    def facts(self) -> dict[str, Any]:
        """What a checkpoint tells of its data, as JSON types."""
        return {
            "data": [
                {
                    "set": config.label,
                    "split": config.split,
                    "weight": config.weight,
                    **source.facts(),
                }
                for config, source in self.sets
            ],
            "skipped": self.skipped,
        }

    def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
        """A clip whose object can be seen in its first frame, or the last of `TRIES` tries.

        Raises:
            UserError: the sets are read strictly and a file cannot be used, or none can.
        """
        config, source = self.sets[rng.choice(len(self.sets), p=self.weights)]
        clip, tries = None, 0
        for _ in range(MOST_FAULTS):
            try:
                clip = source.sample(rng, length, height, width)
            except BadFile as fault:
                self.faults.note(fault)
                continue
            tries += 1
            if clip.masks[0].mean() > 255 * LEAST_SHARE or tries == TRIES:
                return clip
        raise UserError(f"Hardly any file of {config.root} can be used; restore the data set.")


def open_source(data: Sequence[DataConfig], *, strict: bool = False) -> Mixture:
    """Opens data sets.

    Args:
        data: the sets, with the weights by which clips are drawn from them.
        strict: a file that cannot be used ends the training; else it is passed over, logged as a
            warning of ``s2svos.data`` and counted.

    Raises:
        UserError: a set is not there, or a file cannot be used and ``strict``.
    """
    if not data:
        raise UserError("There are no data to train on; name a data set, or synthetic.")
    faults = Faults(strict=strict)
    return Mixture([(config, _open(config, faults)) for config in data], faults)


def _open(config: DataConfig, faults: Faults) -> _Set:
    root = Path(config.root or "")
    match config.kind:
        case DataKind.DAVIS:
            videos = layouts.davis(root, config.year, config.split, faults)
        case DataKind.YOUTUBE_VOS:
            videos = layouts.youtube_vos(root, config.split, faults)
        case DataKind.FOLDER:
            videos = layouts.folder(root, faults)
        case DataKind.STILLS:
            return StillClips(config, layouts.stills(root), faults)
        case DataKind.SYNTHETIC:
            return SyntheticClips(config)
    return VideoClips(config, videos, faults)
