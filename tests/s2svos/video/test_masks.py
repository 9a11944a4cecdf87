from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image

from s2svos.data.files import read_mask
from s2svos.video.masks import davis_palette, read_first_mask, write_mask
from s2svos.video.pictures import read_ids
from s2svos_engines.errors import UserError

SIZE = (8, 10)
IDS = np.zeros(SIZE, np.uint8)
IDS[2:5, 3:6], IDS[6:, 8:] = 3, 255
PALETTE = bytes(range(256)) * 3


def test_palette_of_davis() -> None:
    palette = davis_palette()
    assert len(palette) == 768
    known = {0: (0, 0, 0), 1: (128, 0, 0), 2: (0, 128, 0), 3: (128, 128, 0), 8: (64, 0, 0)}
    known |= {21: (128, 64, 128), 255: (224, 224, 192)}
    assert all(tuple(palette[3 * i : 3 * i + 3]) == colour for i, colour in known.items())


def test_ids_and_palette_survive(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", IDS, PALETTE)
    mask = read_first_mask(tmp_path / "m.png", size=SIZE)
    assert np.array_equal(mask.ids, IDS) and mask.ids.dtype == np.uint8
    assert mask.palette == PALETTE
    assert mask.objects == (3, 255)
    assert Image.open(tmp_path / "m.png").mode == "P"
    assert [path.name for path in tmp_path.iterdir()] == ["m.png"]


def test_real_masks(clips: Path) -> None:
    two = read_first_mask(clips / "dog-720p.first.png", size=(720, 1280))
    assert two.objects == (1, 2) and two.palette != davis_palette()
    grey = read_first_mask(clips / "bear" / "00000.png", size=(480, 854))
    assert grey.objects == (255,) and grey.palette == davis_palette()


def test_short_palettes_are_filled_up(tmp_path: Path) -> None:
    image = Image.fromarray(np.minimum(IDS, 3)).copy()
    image = Image.frombytes("P", image.size, image.tobytes())
    image.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    image.save(tmp_path / "m.png", transparency=0, bits=2)
    mask = read_first_mask(tmp_path / "m.png", size=SIZE)
    assert mask.objects == (3,)
    assert len(mask.palette) == 768
    assert mask.palette[9:12] == bytes((0, 0, 200))


def test_other_depths(tmp_path: Path) -> None:
    Image.fromarray(IDS > 0).save(tmp_path / "1.png")
    assert read_first_mask(tmp_path / "1.png", size=SIZE).objects == (1,)
    Image.fromarray(IDS.astype(np.uint16)).save(tmp_path / "16.png")
    assert np.array_equal(read_first_mask(tmp_path / "16.png", size=SIZE).ids, IDS)


def painted(*areas: tuple[int, int, tuple[int, ...]], channels: int = 3) -> np.ndarray:
    """Squares of 20 pixels at places, in colours, on nothing."""
    picture = np.zeros((60, 90, channels), np.uint8)
    for y, x, colour in areas:
        picture[y : y + 20, x : x + 20] = colour
    return picture


def test_each_colour_is_an_object(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    for channels, opaque in ((3, ()), (4, (255,))):
        red, green = (250, 20, 20, *opaque), (20, 250, 20, *opaque)
        picture = painted((5, 5, red), (30, 40, green), channels=channels)
        picture[30:35, 40:60] = 0  # the green is smaller
        Image.fromarray(picture).save(path)
        mask = read_first_mask(path, size=(60, 90))
        assert mask.objects == (1, 2)
        assert ((mask.ids == 1) == (picture[..., 0] == 250)).all()
        assert mask.palette[3:9] == bytes((250, 20, 20, 20, 250, 20))
        assert mask.doubts == (
            f"The mask {path} is in colours: object 1 is #fa1414, 2 is #14fa14.",
        )


def test_smoothed_edges_of_colours_go_to_the_nearest(tmp_path: Path) -> None:
    picture = painted((25, 5, (240, 0, 0)), (5, 5, (240, 0, 0)), (5, 25, (0, 0, 240)))
    smooth = cv2.GaussianBlur(picture, (3, 3), 0)
    Image.fromarray(smooth).save(tmp_path / "m.png")
    mask = read_first_mask(tmp_path / "m.png", size=(60, 90))
    assert mask.objects == (1, 2)
    assert set(np.unique(mask.ids[7:23, 7:23])) == {1}
    assert set(np.unique(mask.ids[7:23, 27:43])) == {2}
    assert not mask.ids[50:].any()


def test_colours_of_a_known_palette_keep_their_ids(tmp_path: Path) -> None:
    ids = np.zeros((60, 90), np.uint8)
    ids[5:30, 5:30], ids[30:50, 40:80] = 7, 2
    write_mask(tmp_path / "p.png", ids, davis_palette())
    Image.open(tmp_path / "p.png").convert("RGB").save(tmp_path / "m.png")
    mask = read_first_mask(tmp_path / "m.png", size=(60, 90))
    assert np.array_equal(mask.ids, ids)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_in_several_channels_is_grey(tmp_path: Path, mode: str) -> None:
    Image.fromarray(IDS).convert(mode).save(tmp_path / "m.png")
    assert np.array_equal(read_first_mask(tmp_path / "m.png", size=SIZE).ids, IDS)
    assert np.array_equal(read_mask(tmp_path / "m.png"), IDS)


def test_a_mask_is_turned_as_its_frame(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6  # stored a quarter turn anticlockwise
    Image.fromarray(np.rot90(IDS)).save(tmp_path / "m.png", exif=exif)
    assert np.array_equal(read_first_mask(tmp_path / "m.png", size=SIZE).ids, IDS)


def test_smoothed_edges_are_no_objects(tmp_path: Path) -> None:
    disc = np.zeros((64, 64), np.uint8)
    cv2.circle(disc, (30, 30), 20, 255, -1)
    Image.fromarray(cv2.GaussianBlur(disc, (3, 3), 0)).save(tmp_path / "m.png")
    with pytest.raises(UserError, match="edges were smoothed or dithered"):
        read_first_mask(tmp_path / "m.png", size=(64, 64))
    disc[30, 51:54] = 7
    Image.fromarray(disc).save(tmp_path / "m.png")
    (doubt,) = read_first_mask(tmp_path / "m.png", size=(64, 64)).doubts
    assert "an id 7" in doubt
    disc[disc == 7] = 0
    disc[2, 2] = 7  # a small thing by itself
    Image.fromarray(disc).save(tmp_path / "m.png")
    assert not read_first_mask(tmp_path / "m.png", size=(64, 64)).doubts


def test_a_background_that_is_not_0(tmp_path: Path) -> None:
    image = Image.frombytes("P", (10, 8), np.where(IDS == 3, 1, 2).astype(np.uint8).tobytes())
    image.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200])
    image.save(tmp_path / "m.png")
    (doubt,) = read_first_mask(tmp_path / "m.png", size=SIZE).doubts
    assert "no background" in doubt
    image = Image.frombytes("P", (10, 8), np.where(IDS == 3, 0, 2).astype(np.uint8).tobytes())
    image.putpalette([200, 0, 0, 0, 200, 0, 90, 90, 90])
    image.save(tmp_path / "m.png")
    (doubt,) = read_first_mask(tmp_path / "m.png", size=SIZE).doubts
    assert "more of index 2 than of 0" in doubt
    image.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 0])
    image.save(tmp_path / "m.png")
    with pytest.raises(UserError, match="index 2 for black"):
        read_first_mask(tmp_path / "m.png", size=SIZE)


def test_grey_of_two_bits(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 1, 2, 0, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes([0, 0b00011011])))
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))
    assert read_ids(tmp_path / "m.png")[0].tolist() == [[0, 1, 2, 3]]
    assert read_mask(tmp_path / "m.png").tolist() == [[0, 1, 2, 3]]


def test_masks_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    grey = Image.fromarray(IDS)

    def refused(match: str, size: tuple[int, int] = SIZE) -> None:
        with pytest.raises(UserError, match=match):
            read_first_mask(path, size=size)

    refused("does not exist")
    path.write_text("no picture")
    refused("cannot be read as a picture")
    grey.save(path)
    refused("10x8, but the video is 20x16", (16, 20))
    path.write_bytes(path.read_bytes()[:50])
    refused("cannot be read as a picture")
    for mode in ("RGB", "RGBA"):
        blue = Image.new("L", grey.size, 99)
        Image.merge("RGB", (grey, grey, blue)).convert(mode).save(path)
        refused("no black or transparent background.*palette index or its grey value")
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8)).save(path)
    refused("colours of which 0 fill an area|no black or transparent background")
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(path)
    refused("is empty")
    Image.fromarray(IDS.astype(np.uint16) * 2).save(path)
    refused("the value 510")
    grey.save(path, "JPEG")
    refused("lossy")


def test_no_part_of_a_mask_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space"):
        write_mask(tmp_path / "m.png", IDS, PALETTE)
    assert not list(tmp_path.iterdir())
