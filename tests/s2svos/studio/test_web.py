"""The page in which the network runs in the browser: written, served, and used in Chromium."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from studio_server import HEIGHT, WIDTH, pond

import s2svos
from s2svos.sample.render import render
from s2svos.studio import web_page
from s2svos.studio.web_page import write_web_page
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
FRAMES, PATIENCE = 16, 600_000  # milliseconds, far more than anything takes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a page that ``export --web`` has written, with libraries that npm has fetched."""
    out = tmp_path_factory.mktemp("web") / "page"
    command = [sys.executable, "-m", "s2svos", "export", "--web", str(out)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if "npm" in run.stderr and run.returncode == 2:
        pytest.skip(run.stderr.strip())
    assert run.returncode == 0, run.stderr
    return out


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "s2svos", "studio", "--serve", str(folder)]
    process = subprocess.Popen(
        [*command, "--no-browser", "--port", "0"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    yield process.stdout.readline().strip()
    process.kill()
    process.communicate()


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this system")
def test_the_network_follows_in_the_browser_as_onnx_runtime_does(
    address: str, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    clip = pond(tmp_path / "pond.mp4", FRAMES)
    asked: list[str] = []
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(viewport={"width": 1100, "height": 700}).new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(address)
        assert page.evaluate("crossOriginIsolated")
        page.locator("#file").set_input_files(clip)
        page.locator("body[data-ready]").wait_for()
        assert page.locator("#video").text_content() == f"pond.mp4, {WIDTH}x{HEIGHT}, 16 frames"
        for key, one in (("1", 1), ("2", 2)):
            draw_box(page, key, next(iter(render(FRAMES, HEIGHT, WIDTH)))[1] == one)
        page.locator('body[data-saved="2"]').wait_for()
        page.keyboard.press("s")
        page.locator('body[data-saved="3"]').wait_for()
        page.keyboard.press("Enter")
        page.locator("#status", has_text="15 frames followed").wait_for()
        with page.expect_download() as started:
            page.locator("#download").click()
        started.value.save_as(tmp_path / "masks.zip")
        browser.close()
    assert asked
    assert all(url.startswith((address, f"blob:{address}")) for url in asked)
    masks = unpacked(tmp_path / "masks.zip")
    assert len(masks) == FRAMES
    frames = list(s2svos.read(clip))
    stream = s2svos.load(engine="onnxruntime").open(frames[0], masks[0])
    for frame, found in zip(frames[1:], masks[1:], strict=True):
        wanted = stream.step(frame)
        for one in (1, 2):
            both, either = (found == one) & (wanted == one), (found == one) | (wanted == one)
            assert both.sum() > 0.95 * either.sum()


def draw_box(page, key: str, place: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    rows, columns = np.nonzero(place)
    page.keyboard.press(key)
    page.keyboard.press("x")
    stage = page.locator("#stage").bounding_box()
    scale = min(stage["width"] / WIDTH, stage["height"] / HEIGHT)
    left = stage["x"] + (stage["width"] - WIDTH * scale) / 2
    top = stage["y"] + (stage["height"] - HEIGHT * scale) / 2
    page.mouse.move(left + columns.min() * scale, top + rows.min() * scale)
    page.mouse.down()
    page.mouse.move(left + columns.max() * scale, top + rows.max() * scale)
    page.mouse.up()


def unpacked(path: Path) -> list[np.ndarray]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = sorted(name for name in archive.namelist() if name.startswith("masks/"))
        pictures = [Image.open(io.BytesIO(archive.read(name))) for name in names]
    assert {picture.mode for picture in pictures} == {"P"}
    return [np.array(picture) for picture in pictures]


def test_libraries_are_checked_and_other_folders_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = Bundle.open(s2svos.default_bundle())
    packages = tmp_path / "node_modules"
    with pytest.raises(UserError, match="cannot be read"):
        write_web_page(bundle, tmp_path / "page", packages=packages)
    for name in web_page.LIBRARIES:
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text("something else")
    with pytest.raises(UserError, match=r"is not that of onnxruntime-web 1\."):
        write_web_page(bundle, tmp_path / "page", packages=packages)
    assert not (tmp_path / "page").exists()
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="npm, which is not installed"):
        write_web_page(bundle, tmp_path / "page")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds other files"):
        write_web_page(bundle, tmp_path / "other", packages=packages)
    assert (tmp_path / "other" / "thesis.txt").read_text() == "mine"
