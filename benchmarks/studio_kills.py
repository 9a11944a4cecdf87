"""Whether a stroke is lost where the server of ``s2svos studio`` is killed at a random moment.

python -m benchmarks.studio_kills --tries 20

Strokes are sent as the page sends them, one after the other; the server is killed in the midst.
Lost is a stroke that was answered, or sent more than a second before, and is not in the project.
"""

from __future__ import annotations

import http.client
import random
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from fractions import Fraction
from pathlib import Path
from threading import Event, Thread
from typing import Annotated
from urllib.parse import urlsplit

import typer

from benchmarks.report import append_json, print_table, run_script

HEIGHT, WIDTH, FRAMES = 480, 854, 12
LONGEST = 4.0  # seconds of strokes before the kill


def main(
    tries: Annotated[int, typer.Option(min=1, help="Moments.")] = 20,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Paint, kill the server, and count what is there."""
    from s2svos.sample.render import render
    from s2svos.video.writer import VideoWriter

    chooser, strokes, lost = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for number in range(tries):
            video = Path(folder) / f"{number}.mp4"
            with VideoWriter(video, width=WIDTH, height=HEIGHT, rate=Fraction(24)) as writer:
                for frame, _ in render(FRAMES, HEIGHT, WIDTH):
                    writer.write(frame)
            sent, missing = _try(video, chooser.uniform(0.1, LONGEST))
            strokes, lost = strokes + sent, lost + missing
    row = ("SIGKILL", str(tries), str(strokes), str(lost))
    columns = ("server ended by", "times", "strokes of more than a second before", "lost")
    print_table("Strokes on the page", columns, [row])
    if json:
        append_json(json, "studio_kills", {"tries": tries, "strokes": strokes, "lost": lost})


def _try(video: Path, seconds: float) -> tuple[int, int]:
    """Return how many strokes had to be there after the kill, and how many were not."""
    import numpy as np

    from s2svos.video.pictures import read_ids

    command = [sys.executable, "-m", "s2svos", "studio", str(video), "--no-browser", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert server.stdout
    address = urlsplit(server.stdout.readline().strip())
    sent: dict[int, float] = {}
    answered: set[int] = set()
    killed = Event()

    def paint() -> None:
        token = address.query.removeprefix("token=")
        connection = http.client.HTTPConnection(address.netloc, timeout=60)
        labels = np.zeros((HEIGHT, WIDTH), np.uint8)
        stroke = 0
        while not killed.is_set():
            stroke += 1
            index = stroke % FRAMES  # an object's id says which stroke it was
            labels[:] = 0
            labels[100:200, 100:300] = stroke % 255 + 1
            sent[stroke] = time.monotonic()
            try:
                connection.request(
                    "PUT",
                    f"/api/masks/{index}",
                    zlib.compress(labels.tobytes(), 1),
                    {"Cookie": f"s2svos-studio={token}"},
                )
                if connection.getresponse().read():
                    answered.add(stroke)
            except (OSError, http.client.HTTPException):
                return

    painter = Thread(target=paint, daemon=True)
    painter.start()
    time.sleep(seconds)
    at = time.monotonic()
    server.send_signal(signal.SIGKILL)
    killed.set()
    server.communicate()
    painter.join()
    wanted = {one for one, moment in sent.items() if moment < at - 1} | answered
    newest = {one % FRAMES: one for one in sorted(wanted)}  # a later stroke lies over an earlier
    missing = 0
    for index, stroke in newest.items():
        path = Path(f"{video}.studio", "given", f"{index:06d}.png")
        found = int(read_ids(path)[0].max()) if path.exists() else 0
        # One that was sent later may have come as well.
        later = {one % 255 + 1 for one in sent if one % FRAMES == index and one >= stroke}
        missing += found not in later
    return len(wanted), missing


if __name__ == "__main__":
    run_script(main)
