"""Draw the demonstration clip, follow it with the real command and judge the result."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

from s2svos.data.files import read_mask
from s2svos.evaluation.metrics import region_similarity
from s2svos.sample.render import RATE, SHOWN, render
from s2svos.video.masks import davis_palette, write_mask
from s2svos.video.writer import VideoWriter
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.errors import UserError

Clip = Sequence[tuple[Frame, Labels]]  # with true ids
_MARK = ".s2svos.demo"
OBJECTS = {1: "koi", 2: "turtle", 3: "second koi"}
# DAVIS's red and green vanish on koi and leaves.
_COLOURS = {1: (20, 120, 255), 2: (255, 40, 200), 3: (255, 220, 0)}


def palette() -> bytes:
    """DAVIS's palette with colours for the objects that nothing else in the clip has."""
    colours = bytearray(davis_palette())
    for number, colour in _COLOURS.items():
        colours[3 * number : 3 * number + 3] = bytes(colour)
    return bytes(colours)


def write_clip(out: Path) -> Clip:
    """Draw the clip into ``out``: ``clip.mp4``, ``first.png`` and ``truth/00000.png`` onwards.

    Returns:
        the frames and their true ids.

    Raises:
        UserError: the folder cannot be written, or holds files of others.
    """
    _check(out)
    clip = list(render(story=SHOWN))
    try:
        (out / "truth").mkdir(parents=True, exist_ok=True)
        (out / _MARK).touch()
        write_video(out / "clip.mp4", [frame for frame, _ in clip])
        write_mask(out / "first.png", clip[0][1], palette())
        for index, (_, ids) in enumerate(clip):
            write_mask(out / "truth" / f"{index:05d}.png", ids, palette())
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror})", "choose another") from error
    return clip


def _check(out: Path) -> None:
    """Refuse a folder whose files no demo has written."""
    if not out.is_dir() or not any(out.iterdir()) or (out / _MARK).is_file():
        return
    # Of an earlier version, which left no mark.
    if all((out / name).exists() for name in ("clip.mp4", "truth/00000.png", "result/run.json")):
        return
    raise UserError(f"{out} holds files that are not of a demo", "choose another --out")


def write_video(path: Path, frames: Sequence[Frame]) -> None:
    """Write uint8 [H, W, 3] RGB frames as H.264, close to lossless for the eye.

    Raises:
        OSError: the file cannot be written.
    """
    height, width = frames[0].shape[:2]
    with VideoWriter(path, width=width, height=height, rate=Fraction(RATE), crf=14) as writer:
        for frame in frames:
            writer.write(frame)


def follow(out: Path, clip: Clip, *, bundle: Path | None, engine: str) -> list[Labels]:
    """Run ``s2svos infer`` on the clip in ``out``, and show the command as one types it.

    Returns:
        the ids that it wrote to ``out/result/masks``, one picture a frame.

    Raises:
        UserError: the command failed; it has said why.
    """
    arguments = ["infer", "--mask", str(out / "first.png"), "--out", str(out / "result")]
    arguments += ["--bundle", str(bundle)] if bundle else []
    arguments += ["--engine", engine] if engine != "auto" else []
    arguments += ["--overwrite"] if (out / "result").exists() else []
    clip_file = str(out / "clip.mp4")
    arguments += ["--", clip_file] if clip_file.startswith("-") else [clip_file]
    print(f"$ {shlex.join(['s2svos', *arguments])}", flush=True)
    done = subprocess.run([sys.executable, "-m", "s2svos", *arguments], check=False)
    if done.returncode:
        raise UserError("The command above failed", "its message says why and what to do")
    masks = out / "result" / "masks"
    return [read_mask(masks / f"{index:05d}.png") for index in range(len(clip))]


def judge(clip: Clip, labels: Sequence[Labels]) -> dict[str, float]:
    """Mean J of every object over all frames but the first, and the mean of these, ``overall``.

    A frame in which an object is hidden counts 1 if nothing is predicted and 0 otherwise.

    Args:
        clip: frames with true ids.
        labels: uint8 [H, W], the predicted ids of every frame.
    """
    scores = {}
    for number, name in OBJECTS.items():
        pairs = list(zip(labels, clip, strict=True))[1:]
        each = [region_similarity(ids == number, truth == number) for ids, (_, truth) in pairs]
        scores[name] = float(np.mean(each))
    return {**scores, "overall": float(np.mean(list(scores.values())))}
