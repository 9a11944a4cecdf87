"""Whether a file is shorter than its container says.

Byte counts are exact where frame counts and durations are not: edit lists drop frames, sound
outlasts the picture, and a variable rate makes any duration a guess.
"""

from __future__ import annotations

import struct
from pathlib import Path

_BOXES = b"ftyp styp moov moof mdat mfra free skip wide uuid sidx meta emsg prft pdin udta".split()
_EBML, _SEGMENT = 0x1A45DFA3, 0x18538067
_TS_PACKETS = 188, 192


def is_cut_off(path: Path, container: str) -> bool:
    """Whether bytes are missing at the end of a file.

    Args:
        path: of the video.
        container: FFmpeg's name of its format, as ``mov,mp4,m4a,3gp,3g2,mj2``.

    Returns:
        False also where the container states no size, as a live recording.
    """
    size = path.stat().st_size
    if container.startswith("mov"):
        return _stated_by_boxes(path, size) > size
    if container.startswith("matroska"):
        return _stated_by_segment(path) > size
    if container == "avi":
        return _stated_by_riff(path, size) > size
    if container == "mpegts":
        return all(size % packet for packet in _TS_PACKETS)
    return False


def _stated_by_boxes(path: Path, size: int) -> int:
    """Where the last of the boxes ends."""
    end = 0
    with path.open("rb") as file:
        while end + 8 <= size:
            file.seek(end)
            header = file.read(16)
            length, kind = struct.unpack(">I4s", header[:8])
            if length == 1 and len(header) == 16:
                (length,) = struct.unpack(">Q", header[8:])
            if length < 8 or kind not in _BOXES:  # 0: up to the end of the file
                break
            end += length
    return end


def _stated_by_riff(path: Path, size: int) -> int:
    """Where the last of the RIFF chunks ends; a file over 1 GB has several."""
    end = 0
    with path.open("rb") as file:
        while end + 8 <= size:
            file.seek(end)
            kind, length = struct.unpack("<4sI", file.read(8))
            if kind != b"RIFF":
                break
            end += 8 + length
    return end


def _stated_by_segment(path: Path) -> int:
    """Where the segment of a Matroska file ends; 0 where that is not known."""
    with path.open("rb") as file:
        head = file.read(4096)
    at = 0
    for wanted in (_EBML, _SEGMENT):
        if int.from_bytes(head[at : at + 4], "big") != wanted or len(head) < at + 5 or not head[at]:
            return 0
        size_bytes = 9 - head[at + 4].bit_length()
        field = int.from_bytes(head[at + 4 : at + 4 + size_bytes], "big")
        all_ones = (1 << 7 * size_bytes) - 1
        length = field & all_ones
        if length == all_ones:
            return 0
        at += 4 + size_bytes + length
    return at
