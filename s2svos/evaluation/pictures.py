"""Pictures of the results: J over time, and the videos with the lowest J."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from s2svos.data.files import read_mask
from s2svos.data.layouts import VideoFiles
from s2svos.evaluation.scores import VideoScore
from s2svos.evaluation.store import GO_ON
from s2svos.evaluation.videos import frame_at, resize, truth_at
from s2svos.video.contact_sheet import draw_sheet
from s2svos.video.masks import davis_palette
from s2svos.video.overlay import paint
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.files import disk_errors, write_atomically

WORST = 6  # videos
_COLUMNS = 6  # frames of each
_CAPTION = 34  # pixels
_OUTLINE = np.ones((3, 3), np.uint8)


def worst_first(scores: Sequence[VideoScore]) -> list[VideoScore]:
    """Return the videos that have a score, by rising mean J."""
    return sorted((score for score in scores if score.scored), key=lambda score: score.j.mean)


def draw_j_over_time(path: Path, scores: Sequence[VideoScore]) -> None:
    """Draw J of each video over its scored frames, the worst in colour, and the mean of all.

    Needs matplotlib.

    Args:
        path: of the PNG.
        scores: at least one with a scored frame.

    Raises:
        UserError: the file cannot be written.
    """
    # It would warn of a home folder that cannot be written, and does without.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    share = np.linspace(0, 1, 101)
    figure, axis = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    curves = []
    for rank, score in enumerate(worst_first(scores)):
        objects = [one.j for one in score.objects if one.j]
        curve = np.mean([np.interp(share, np.linspace(0, 1, len(j)), j) for j in objects], axis=0)
        curves.append(curve)
        if rank < WORST:
            label = f"{score.name}  {score.j.mean:.3f}"
            axis.plot(100 * share, curve, color=f"C{rank}", linewidth=1, label=label)
        else:
            axis.plot(100 * share, curve, color="0.8", linewidth=0.6, zorder=1)
    mean = np.mean(curves, axis=0)
    axis.plot(100 * share, mean, color="black", linewidth=2.5, label="mean of the videos")
    axis.set(xlabel="% of the scored frames", ylabel="J", xlim=(0, 100), ylim=(0, 1.01))
    axis.grid(alpha=0.3)
    axis.legend(loc="lower left", fontsize="small")
    png = io.BytesIO()
    figure.savefig(png, dpi=120, format="png")
    pyplot.close(figure)
    with disk_errors(path.parent, again=GO_ON):
        write_atomically(path, png.getvalue())


def draw_worst(
    path: Path, scores: Sequence[VideoScore], videos: Mapping[str, VideoFiles], masks: Path
) -> None:
    """Draw the worst videos on a sheet: frames over time, predictions painted, truth in white.

    Args:
        path: of the PNG.
        scores: at least one with a scored frame.
        videos: the files of each video by name.
        masks: folder with a folder of predicted masks for each video.

    Raises:
        UserError: a frame or mask cannot be read, or the file cannot be written.
    """
    rows = []
    for score in worst_first(scores)[:WORST]:
        painted = _Painted(videos[score.name], score, masks / score.name)
        strip = draw_sheet(painted, palette=davis_palette(), columns=_COLUMNS, rows=1)
        rows += [_caption(score, painted.stems, strip.shape[1]), strip]
    png = cv2.imencode(".png", np.concatenate(rows)[..., ::-1])[1]
    with disk_errors(path.parent, again=GO_ON):
        write_atomically(path, png.tobytes())


class _Painted(Sequence[tuple[Frame, Labels]]):
    """A video's annotated frames with predictions and truth, painted lazily."""

    def __init__(self, video: VideoFiles, score: VideoScore, masks: Path) -> None:
        self._video = video
        self._size = score.size
        self._ids = [one.id for one in score.objects]
        self._masks = masks
        self.stems = [stem for stem in video.masks if (masks / f"{stem}.png").exists()]

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: Any) -> Any:
        stem = self.stems[index]
        frame = frame_at(self._video, stem)
        if frame.shape[:2] != self._size:
            frame = resize(frame, self._size, cv2.INTER_CUBIC)
        painted = paint(frame, read_mask(self._masks / f"{stem}.png"), davis_palette())
        truth = truth_at(self._video, stem, self._size, resized=True)
        assert truth is not None
        known = np.where(np.isin(truth, self._ids), truth, 0).astype(np.uint8)
        painted[cv2.morphologyEx(known, cv2.MORPH_GRADIENT, _OUTLINE) > 0] = 255
        return painted, np.zeros(self._size, np.uint8)  # nothing is left to paint


def _caption(score: VideoScore, stems: Sequence[str], width: int) -> Frame:
    """Draw a bar with a video's name and scores, uint8 [34, width, 3]."""
    bar = np.full((_CAPTION, width, 3), 255, np.uint8)
    text = f"{score.name}   J {score.j.mean:.3f}   F {score.f.mean:.3f}"
    if not math.isnan(score.j.decay):
        text += f"   J decays by {score.j.decay:.3f}"
    text += f"   frames {stems[0]} to {stems[-1]}"
    cv2.putText(
        bar, text, (10, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.75, (0, 0, 0), 2, cv2.LINE_AA
    )  # fmt: skip
    return bar
