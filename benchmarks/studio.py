"""How fast the page of ``s2svos studio`` answers: strokes, a newcomer's path, following.

python -m benchmarks.studio

Needs Chromium and Playwright (the extra dev). The clip is rendered; times are the browser's own.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.report import append_json, print_table, run_script
from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from playwright.sync_api import Page

STROKES = """
async (count) => {
  const stage = document.getElementById("stage"), box = stage.getBoundingClientRect();
  const send = (kind, x, y) => stage.dispatchEvent(new PointerEvent(kind, {
    pointerId: 1, buttons: 1, bubbles: true, clientX: box.left + x, clientY: box.top + y }));
  stage.setPointerCapture = () => {};
  const drawn = [], saved = [];
  for (let i = 0; i < count; i++) {
    const x = box.width * (0.3 + 0.4 * Math.random());
    const y = box.height * (0.35 + 0.3 * Math.random());
    const before = document.body.dataset.saved, began = performance.now();
    send("pointerdown", x, y);
    for (let j = 1; j <= 10; j++) send("pointermove", x + 4 * j, y + 2 * j);
    send("pointerup", x + 40, y + 20);
    await new Promise(requestAnimationFrame);
    drawn.push(performance.now() - began);
    while (document.body.dataset.saved === before) await new Promise((wait) => setTimeout(wait, 2));
    saved.push(performance.now() - began);
  }
  return { drawn, saved };
}
"""


def main(
    strokes: Annotated[int, typer.Option(min=1, help="Of the brush, each of ten moves.")] = 100,
    frames: Annotated[int, typer.Option(min=10, help="To follow.")] = 71,
    height: Annotated[int, typer.Option(min=180, help="Rows of the clip that is painted.")] = 1080,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Paint, snap and follow in a browser, and measure."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise UserError("There is no Chromium", "install it with the system's packages")
    from playwright.sync_api import sync_playwright

    from s2svos.environment import environment

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as running:
        browser = running.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        large = _clip(Path(folder) / "large.mp4", 12, height)
        times = _in_page(browser, large, lambda page: page.evaluate(STROKES, strokes))
        clip = _clip(Path(folder) / "clip.mp4", frames, 480)
        began = time.perf_counter()
        followed = _in_page(browser, clip, _newcomer)
        path = time.perf_counter() - began
        browser.close()
        mask = Path(folder) / "clip.mp4.studio" / "given" / "000000.png"
        infer = _infer(clip, mask, Path(folder) / "out")
    rows = [
        (
            f"a stroke on {height} rows {what}",
            f"{statistics.median(ms):.0f} ms",
            f"{max(ms):.0f} ms",
        )
        for what, ms in times.items()
    ]
    rows.append((f"stroke, snap, {frames - 1} frames, masks on disk", f"{path:.1f} s", ""))
    rows.append(("following in the page", f"{followed:.1f} frames/s", ""))
    rows.append(("infer --no-overlay", f"{infer:.1f} frames/s", f"{followed / infer:.2f} x"))
    print_table("The page", ("", "median", "worst"), rows)
    if json:
        results = {"strokes": times, "path": path, "followed": followed, "infer": infer}
        append_json(json, "studio", {"environment": environment(), **results})


def _in_page(browser: Any, video: Path, work: Any) -> Any:
    """Open the page on a video in a new process, do the work in it, and return its result."""
    command = [sys.executable, "-m", "s2svos", "studio", str(video), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(process.stdout.readline().strip())
        page.locator("body[data-ready]").wait_for()
        return work(page)
    finally:
        process.terminate()
        process.wait()


def _newcomer(page: Page) -> float:
    """Stroke, snap and follow; return frames a second, of the page's own words."""
    box = page.locator("#stage").bounding_box()
    assert box
    # Over the turtle's shell, at the right of the pond.
    x, y = box["x"] + 0.93 * box["width"], box["y"] + 0.2 * box["height"]
    page.locator("#size").fill("60")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + 20, y + 10)
    page.mouse.up()
    page.locator('body[data-saved="1"]').wait_for()
    page.keyboard.press("s")
    page.locator('body[data-saved="2"]').wait_for()
    page.keyboard.press("Enter")
    status = page.locator("#status", has_text="frames followed")
    status.wait_for(timeout=600_000)
    return float((status.text_content() or "").split()[-2])


def _clip(path: Path, frames: int, height: int) -> Path:
    import cv2

    from s2svos.sample.render import render
    from s2svos.video.writer import VideoWriter

    width = height * 16 // 9
    with VideoWriter(path, width=width, height=height, rate=Fraction(24)) as writer:
        for frame, _ in render(frames):
            writer.write(cv2.resize(frame, (width, height)).astype("uint8"))
    return path


def _infer(clip: Path, mask: Path, out: Path) -> float:
    """Return the frames a second of ``s2svos infer``, without loading."""
    import json as json_module

    command = [sys.executable, "-m", "s2svos", "infer", str(clip), "--mask", str(mask)]
    subprocess.run([*command, "-o", str(out), "--no-overlay"], check=True, capture_output=True)
    facts = json_module.loads((out / "run.json").read_text())
    seconds = facts["seconds"]
    return float(facts["frames"] / (seconds["total"] - seconds["load"]))


if __name__ == "__main__":
    run_script(main)
