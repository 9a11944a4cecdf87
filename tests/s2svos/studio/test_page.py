"""The page in a real browser: Chromium of the system, driven by Playwright."""

from __future__ import annotations

import csv
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from studio_server import HEIGHT, WIDTH, Server, pond, studio

from s2svos.sample.render import render

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
playwright = pytest.importorskip("playwright.sync_api")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this system")
FRAMES, PATIENCE = 24, 600_000  # milliseconds, far more than anything takes
Browser, Page = playwright.Browser, playwright.Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pond(tmp_path_factory.mktemp("pond") / "pond.mp4", FRAMES)


@pytest.fixture
def video(clip: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(clip, tmp_path / "pond.mp4"))


@pytest.fixture
def server(video: Path) -> Iterator[Server]:
    with studio(video) as started:
        yield started


@pytest.fixture
def page(browser: Browser, server: Server) -> Iterator[Page]:
    opened = opened_page(browser, server.address)
    yield opened
    opened.context.close()


def opened_page(browser: Browser, address: str) -> Page:
    page = browser.new_context(viewport={"width": 1100, "height": 700}).new_page()
    page.set_default_timeout(PATIENCE)
    page.on("pageerror", lambda error: pytest.fail(f"the page failed: {error}"))
    page.goto(address)
    page.locator("body[data-ready]").wait_for()
    return page


def truth(index: int, one: int) -> np.ndarray:
    return list(render(FRAMES, HEIGHT, WIDTH))[index][1] == one


def at(page: Page, x: float, y: float) -> tuple[float, float]:
    """Return where a pixel of the video is on the page."""
    box = page.locator("#stage").bounding_box()
    scale = min(box["width"] / WIDTH, box["height"] / HEIGHT)
    left = box["x"] + (box["width"] - WIDTH * scale) / 2
    top = box["y"] + (box["height"] - HEIGHT * scale) / 2
    return left + x * scale, top + y * scale


def saved(page: Page, count: int) -> None:
    page.locator(f'body[data-saved="{count}"]').wait_for()


def drag(page: Page, *points: tuple[float, float]) -> None:
    page.mouse.move(*at(page, *points[0]))
    page.mouse.down()
    for point in points[1:]:
        page.mouse.move(*at(page, *point))
    page.mouse.up()


def box_around(page: Page, place: np.ndarray) -> None:
    rows, columns = np.nonzero(place)
    page.keyboard.press("x")
    drag(page, (columns.min(), rows.min()), (columns.max(), rows.max()))


def mask(server: Server, index: int, kind: str = "given") -> np.ndarray:
    return np.array(Image.open(server.folder / kind / f"{index:06d}.png"))


def iou(found: np.ndarray, wanted: np.ndarray) -> float:
    return float((found & wanted).sum() / (found | wanted).sum())


def follow(page: Page, key: str) -> None:
    page.keyboard.press(key)
    page.locator("#status", has_text="frames followed").wait_for()


def test_a_newcomers_path(page: Page, server: Server) -> None:
    turtle = truth(0, 2)
    rows, columns = np.nonzero(turtle)
    page.keyboard.press("b")
    page.locator("#size").fill("24")
    middle = (int(columns.mean()), int(rows.mean()))
    drag(page, (middle[0] - 8, middle[1]), (middle[0] + 8, middle[1]), middle)
    saved(page, 1)
    rough = mask(server, 0) == 1
    page.keyboard.press("s")
    saved(page, 2)
    snapped = mask(server, 0) == 1
    assert iou(snapped, turtle) > iou(rough, turtle)
    follow(page, "Enter")
    assert len(list((server.folder / "followed").glob("*.png"))) == FRAMES - 1
    assert iou(mask(server, FRAMES - 1, "followed") == 1, truth(FRAMES - 1, 2)) > 0.5
    assert page.locator("#position").text_content() == f"frame {FRAMES - 1} of {FRAMES - 1}"


def test_two_objects_with_names_undo_and_redo(page: Page, server: Server) -> None:
    box_around(page, truth(0, 1))
    saved(page, 1)
    page.keyboard.press("2")
    box_around(page, truth(0, 2))
    saved(page, 2)
    assert set(np.unique(mask(server, 0))) == {0, 1, 2}
    page.get_by_label("Name of object 2").fill("turtle")
    page.get_by_label("Name of object 2").press("Enter")
    page.get_by_label("Paint turtle").wait_for()
    page.locator("#stage").focus()
    for count, key, ids in ((3, "z", {0, 1}), (4, "z", {0}), (5, "y", {0, 1}), (6, "y", {0, 1, 2})):
        page.keyboard.press(key)
        saved(page, count)
        found = mask(server, 0) if ids != {0} else np.zeros(1, np.uint8)
        assert set(np.unique(found)) == ids
    page.reload()
    page.locator("body[data-ready]").wait_for()
    page.get_by_label("Paint turtle").wait_for()
    page.get_by_label("Take turtle away").click()
    page.get_by_label("Paint turtle").wait_for(state="detached")
    assert set(np.unique(mask(server, 0))) == {0, 1}


def test_a_correction_stays_and_is_followed_both_ways(page: Page, server: Server) -> None:
    box_around(page, truth(0, 2))
    page.keyboard.press("s")
    saved(page, 2)
    for _ in range(12):
        page.keyboard.press("ArrowRight")
    page.locator("#position", has_text="frame 12 of").wait_for()
    box_around(page, truth(12, 2))
    page.keyboard.press("s")
    saved(page, 4)
    painted = mask(server, 12)
    follow(page, "a")
    assert np.array_equal(mask(server, 12), painted)
    followed = {path.name for path in (server.folder / "followed").iterdir()}
    assert followed == {f"{i:06d}.png" for i in range(FRAMES)} - {"000000.png", "000012.png"}
    for index in (9, 13, 15):  # from boxes that were drawn in a hurry
        assert iou(mask(server, index, "followed") == 1, truth(index, 2)) > 0.25
    assert "--mask 12=" in page.locator("#command").input_value()


def test_it_stops_and_goes_on_after_the_server_was_killed(
    browser: Browser, video: Path, server: Server, page: Page
) -> None:
    box_around(page, truth(0, 2))
    saved(page, 1)
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    page.locator("#stop:disabled").wait_for()
    painted = mask(server, 0)
    server.process.kill()
    server.process.wait()
    with studio(video) as again:
        other = opened_page(browser, again.address)
        assert np.array_equal(mask(again, 0), painted)
        follow(other, "Enter")
        assert len(list((again.folder / "followed").glob("*.png"))) == FRAMES - 1
        other.context.close()


def test_downloads(page: Page, server: Server, tmp_path: Path) -> None:
    box_around(page, truth(0, 2))
    saved(page, 1)
    follow(page, "Enter")
    for name in ("masks.zip", "tracks.csv", "alpha.mov"):
        page.locator("#format").select_option(name)
        with page.expect_download() as started:
            page.locator("#download").click()
        started.value.save_as(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "masks.zip") as archive:
        assert archive.namelist() == [f"masks/{index:05d}.png" for index in range(FRAMES)]
    with (tmp_path / "tracks.csv").open() as file:
        assert {row["name"] for row in csv.DictReader(file)} == {"object 1"}
    with av.open(tmp_path / "alpha.mov") as container:
        assert sum(1 for _ in container.decode(video=0)) == FRAMES


def test_twenty_minutes(browser: Browser, clip: Path, tmp_path: Path) -> None:
    """A long video, of one group of pictures again and again, is opened and followed at its end."""
    path, count = tmp_path / "long.mp4", 0
    with av.open(clip) as source, av.open(path, "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        times = [(packet.pts, packet.dts) for packet in packets]
        while count < 20 * 60 * 24:
            for packet, (pts, dts) in zip(packets, times, strict=True):
                shift = count * packet.duration
                packet.pts, packet.dts, packet.stream = pts + shift, dts + shift, stream
                target.mux(packet)
            count += len(packets)
    with studio(path) as started:
        page = opened_page(browser, started.address)
        page.keyboard.press("End")
        page.locator("#position", has_text=f"frame {count - 1} of {count - 1}").wait_for()
        for _ in range(6):
            page.keyboard.press("ArrowLeft")
        page.locator("#position", has_text=f"frame {count - 7} of").wait_for()
        box_around(page, truth(FRAMES - 7, 2))
        page.keyboard.press("s")
        saved(page, 2)
        follow(page, "Enter")
        followed = sorted(path.stem for path in (started.folder / "followed").iterdir())
        assert followed == [f"{index:06d}" for index in range(count - 6, count)]
        page.keyboard.press("Home")
        page.locator("#position", has_text="frame 0 of").wait_for()
        page.context.close()


def test_two_tabs_see_the_same(browser: Browser, server: Server, page: Page) -> None:
    box_around(page, truth(0, 1))
    saved(page, 1)
    second = page.context.new_page()
    second.set_default_timeout(PATIENCE)
    second.goto(server.address.split("?")[0])
    second.locator("body[data-ready]").wait_for()
    second.get_by_label("Paint object 1").wait_for()


def test_keys_are_told_and_the_keyboard_is_enough(page: Page) -> None:
    page.keyboard.press("?")
    keys = page.locator("#keys").text_content()
    for words in (
        "Brush",
        "Eraser",
        "Polygon",
        "Snap",
        "Undo",
        "Next doubtful",
        "Follow all",
    ):
        assert words in keys
    page.keyboard.press("Escape")
    page.locator("#help").wait_for(state="hidden")
    for key, name in (("e", "Eraser"), ("p", "Polygon"), ("f", "Fill"), ("b", "Brush")):
        page.keyboard.press(key)
        page.locator(f'[aria-pressed="true"]:has-text("{name}")').wait_for()
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.id || document.activeElement.dataset.tool")
        )
    assert {"brush", "size", "snap", "stage", "add", "play", "follow-all", "timeline"} <= reached


def test_polygon_eraser_and_fill(page: Page, server: Server) -> None:
    page.keyboard.press("p")
    for point in ((50, 50), (150, 50), (150, 120), (50, 120)):
        page.mouse.click(*at(page, *point))
    page.keyboard.press("Enter")
    saved(page, 1)
    assert int((mask(server, 0) == 1).sum()) == pytest.approx(100 * 70, rel=0.1)
    page.keyboard.press("e")
    drag(page, (100, 45), (100, 85), (100, 125))
    saved(page, 2)
    assert not mask(server, 0)[60:110, 98:102].any()
    page.keyboard.press("2")
    page.keyboard.press("f")
    page.mouse.click(*at(page, 60, 80))
    saved(page, 3)
    found = mask(server, 0)
    assert set(np.unique(found[60:110, 55:80])) == {2}
    assert set(np.unique(found[60:110, 120:145])) == {1}


def test_nothing_comes_from_elsewhere(browser: Browser, server: Server) -> None:
    context = browser.new_context()
    asked: list[str] = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(server.address)
    page.locator("body[data-ready]").wait_for()
    own = re.escape(server.address.split("?")[0])
    assert asked
    assert all(re.match(f"{own}|blob:{own}", url) for url in asked)
    context.close()


def test_axes_rules_of_accessibility_hold(page: Page) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    box_around(page, truth(0, 1))
    saved(page, 1)
    for dialog in (False, True):
        if dialog:
            page.keyboard.press("?")
        found = axe.Axe().run(page).response["violations"]
        assert not [(one["id"], one["help"]) for one in found]
