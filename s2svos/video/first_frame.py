"""The picture that a first mask is drawn on, where that takes longer than a video waits."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from s2svos.video.incoming import IncomingVideo
from s2svos.video.pictures import BROKEN, read_rgb
from s2svos.video.reader import Video
from s2svos_engines.arrays import Frame
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, write_atomically


@dataclass(frozen=True)
class MaskFrame:
    """The picture that a first mask belongs to, where that is not the video's first frame.

    Args:
        path: file that it was read from.
        frame: uint8 [H, W, 3] RGB.
    """

    path: Path
    frame: Frame


def save_first_frame(video: Video | IncomingVideo, path: Path) -> None:
    """Write a video's first frame as a PNG, under a temporary name that is then changed.

    Raises:
        UserError: the video holds no frame, or the file cannot be written.
    """
    first = next(iter(video), None)
    if first is None:
        raise UserError(f"{video.path} holds no frames", "name another video")
    png = io.BytesIO()
    Image.fromarray(first[1]).save(png, "PNG")
    with disk_errors(path):
        write_atomically(path, png.getvalue(), shared=True)


def read_mask_frame(path: Path, *, size: tuple[int, int]) -> MaskFrame:
    """Read the picture that a mask was drawn on.

    Args:
        path: of the picture.
        size: height and width of the video.

    Raises:
        UserError: missing, no picture, or of another size.
    """
    try:
        frame = read_rgb(path)
    except FileNotFoundError as error:
        raise UserError(f"The picture {path} does not exist", "check its path") from error
    except BROKEN as error:
        raise UserError(f"{path} cannot be read as a picture", "save it again") from error
    if frame.shape[:2] != size:
        raise UserError(
            f"The picture {path} is {frame.shape[1]}x{frame.shape[0]}, but the video is "
            f"{size[1]}x{size[0]}",
            "save it from the video itself with --save-frame",
        )
    return MaskFrame(path, frame)
