"""The network in the browser beside ONNX Runtime: IoU, frames a second, first mask, megabytes.

python -m benchmarks.web

Needs Chromium, Playwright (the extra dev) and npm. The clip is rendered, its first mask the true
one. Browsers convert colours otherwise than FFmpeg: their frames are about 1 of 255 brighter.
"""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from benchmarks.report import append_json, print_table, run_script
from s2svos_engines.errors import UserError

HEIGHT, WIDTH = 480, 854
PAINT = """
async (packed) => {
  const api = await import("/page/api.js");
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  await api.paint(0, new Uint8Array(await new Response(stream).arrayBuffer()));
}
"""


def main(
    frames: Annotated[int, typer.Option(min=2, help="To follow.")] = 60,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Follow a clip in Chromium, without and with threads, and in ONNX Runtime."""
    chromium = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)
    if chromium is None:
        raise UserError("There is no Chromium", "install it with the system's packages")
    import numpy as np
    from PIL import Image

    import s2svos
    from s2svos.environment import environment
    from s2svos.sample.render import render
    from s2svos.studio.web_page import write_web_page
    from s2svos.video.writer import VideoWriter
    from s2svos_engines.bundle import Bundle

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clip, page = folder / "clip.mp4", folder / "page"
        with VideoWriter(clip, width=WIDTH, height=HEIGHT, rate=Fraction(24)) as writer:
            for index, (frame, ids) in enumerate(render(frames + 1, HEIGHT, WIDTH)):
                writer.write(frame)
                if not index:
                    mask = ids
        write_web_page(Bundle.open(s2svos.default_bundle()), page)
        size = sum(path.stat().st_size for path in page.rglob("*") if path.is_file()) / 1e6
        stream = s2svos.load(engine="onnxruntime").open(next(s2svos.read(clip)), mask)
        wanted = [stream.step(frame) for frame in s2svos.read(clip, start=1)]
        packed = base64.b64encode(zlib.compress(mask.tobytes())).decode()
        rows, results = [], []
        for served in (_plain, _isolated):
            with served(page) as address:
                times, archive = _in_browser(chromium, address, clip, packed, folder / "masks.zip")
            with zipfile.ZipFile(archive) as masks:
                names = [f"masks/{index:05d}.png" for index in range(1, frames + 1)]
                found = [np.array(Image.open(io.BytesIO(masks.read(one)))) for one in names]
            scores = [
                float(((a == one) & (b == one)).sum() / ((a == one) | (b == one)).sum())
                for a, b in zip(found, wanted, strict=True)
                for one in np.unique(b)[1:]
            ]
            iou = float(np.mean(scores))
            threads = "several threads" if served is _isolated else "one thread"
            rows.append(
                (threads, f"{iou:.4f}", f"{frames / times['follow']:.1f}",
                 f"{times['ready']:.1f} s", f"{times['first']:.1f} s", f"{size:.1f} MB")
            )  # fmt: skip
            results.append({"threads": threads, "iou": iou, "megabytes": size, **times})
    columns = ("", "IoU with ONNX Runtime", "frames/s", "page ready", "first mask", "page")
    print_table(
        f"{frames} frames of {WIDTH}x{HEIGHT} with {int(mask.max())} objects", columns, rows
    )
    if json:
        append_json(json, "web", {"frames": frames, "runs": results, **environment()})


def _in_browser(
    chromium: str, address: str, clip: Path, packed: str, out: Path
) -> tuple[dict[str, float], Path]:
    """Return seconds until the video is open, from then to the first mask, and of all frames."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        page.set_default_timeout(600_000)
        began = time.perf_counter()
        page.goto(address)
        page.locator("#file").set_input_files(clip)
        page.locator("body[data-ready]").wait_for()
        ready = time.perf_counter()
        page.evaluate(PAINT, packed)
        ordered = time.perf_counter()
        page.keyboard.press("Enter")
        page.locator("#status", has_text=" of ").wait_for()
        first = time.perf_counter()
        page.locator("#status", has_text="frames followed").wait_for()
        done = time.perf_counter()
        with page.expect_download() as started:
            page.locator("#download").click()
        started.value.save_as(out)
        browser.close()
    times = {"ready": ready - began, "first": first - ordered, "follow": done - ordered}
    return times, out


@contextmanager
def _plain(folder: Path) -> Iterator[str]:
    """Serve a folder as any web server does, without the headers that threads need."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@contextmanager
def _isolated(folder: Path) -> Iterator[str]:
    """Serve it as ``s2svos studio --serve`` does."""
    command = [sys.executable, "-m", "s2svos", "studio", "--serve", str(folder), "--no-browser"]
    server = subprocess.Popen([*command, "--port", "0"], stdout=subprocess.PIPE, text=True)
    assert server.stdout
    try:
        yield server.stdout.readline().strip()
    finally:
        server.kill()
        server.communicate()


if __name__ == "__main__":
    run_script(main)
