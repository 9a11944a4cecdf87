"""A real ``s2svos studio`` on a rendered clip."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from s2svos.sample.render import render
from s2svos.video.writer import VideoWriter

HEIGHT, WIDTH = 180, 320


class Server(NamedTuple):
    """A running server: its process, the address that it printed, and its project's folder."""

    process: subprocess.Popen[str]
    address: str
    folder: Path


def pond(path: Path, frames: int) -> Path:
    """Write the clip of the pond; koi 1 and turtle 2 are in it."""
    with VideoWriter(path, width=WIDTH, height=HEIGHT, rate=Fraction(24), crf=14) as writer:
        for frame, _ in render(frames, HEIGHT, WIDTH):
            writer.write(frame)
    return path


@contextmanager
def studio(video: Path, *arguments: str) -> Iterator[Server]:
    """Run the server on any free port, without opening a browser."""
    command = [sys.executable, "-m", "s2svos", "studio", str(video), "--no-browser", "--port", "0"]
    pipe = subprocess.PIPE
    process = subprocess.Popen([*command, *arguments], stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout
        address = process.stdout.readline().strip()
        yield Server(process, address, video.with_name(f"{video.name}.studio"))
    finally:
        process.kill()
        process.communicate()
