"""Clips out of every kind of data set, from real files."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_sets import davis_2017, write_frames, write_masks
from numpy.typing import NDArray

from s2svos.data import video_clips as videos_module
from s2svos.data.augment import ColourJitter, Deformation, Trajectory
from s2svos.data.clips import Clip
from s2svos.data.config import (
    ColourSampling,
    DataConfig,
    DataKind,
    ObjectSampling,
    SyntheticSampling,
)
from s2svos.data.dataset import Mixture, open_source
from s2svos.data.files import SkippedFiles
from s2svos.data.scene import Actor, Background, Part, draw
from s2svos.data.video_clips import LEAST_SHARE, excerpt
from s2svos.data.warp import at_level, composite, pyramid_level, warp_affine
from s2svos_engines.errors import UserError

Picture = NDArray[np.uint8]
RED, BLUE, GREEN = (250, 0, 0), (0, 0, 250), (0, 200, 0)
PLAIN = ColourSampling(
    gain=(1, 1), channel_gain_chance=0, frame_gain=(1, 1), bias=(0, 0), saturation=(1, 1),
    pale_chance=0, blur_chance=0,
)  # fmt: skip


def squares(*places: tuple[int, int]) -> tuple[Picture, Picture]:
    """Squares of 24 pixels on green: the first, id 1, is red, the second, id 2, blue."""
    frame, mask = np.full((80, 120, 3), GREEN, np.uint8), np.zeros((80, 120), np.uint8)
    for i, ((x, y), colour) in enumerate(zip(places, (RED, BLUE), strict=False)):
        frame[y : y + 24, x : x + 24] = colour
        mask[y : y + 24, x : x + 24] = i + 1
    return frame, mask


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, DataConfig]:
    """One small data set of every kind; two squares that move, and stills of them."""
    root = tmp_path_factory.mktemp("sets")
    video = [squares((10 + 4 * t, 20), (80 - 2 * t, 40)) for t in range(10)]
    davis_2017(root / "davis", {"squares": video})
    write_frames(root / "folder" / "frames" / "squares", [frame for frame, _ in video])
    write_masks(root / "folder" / "masks" / "squares", {f"{i:05d}": video[i][1] for i in (0, 4, 9)})
    for name in ("a", "b"):
        write_frames(root / "stills" / name, [frame for frame, _ in video[::5]])
        write_masks(root / "stills" / name, {f"{i:05d}": video[5 * i][1] for i in range(2)})

    # Object 1 is listed from the third frame on; id 9 is in one mask and never listed.
    train = root / "youtube" / "train"
    write_frames(train / "JPEGImages" / "squares", [frame for frame, _ in video], step=5)
    ids = {f"{5 * t:05d}": mask.copy() for t, (_, mask) in enumerate(video)}
    ids["00020"][:3, :3] = 9
    write_masks(train / "Annotations" / "squares", ids)
    listed = {"1": {"frames": list(ids)[2:]}, "2": {"frames": list(ids)}}
    meta = {"videos": {"squares": {"objects": listed}}}
    (train / "meta.json").write_text(json.dumps(meta))

    def config(kind: DataKind, name: str, year: int = 2016, split: str = "val") -> DataConfig:
        return DataConfig(kind, str(root / name), split, year, colour=PLAIN)

    return {
        "davis2016": config(DataKind.DAVIS, "davis"),
        "davis2017": config(DataKind.DAVIS, "davis", 2017),
        "youtube-vos": config(DataKind.YOUTUBE_VOS, "youtube", split="train"),
        "folder": config(DataKind.FOLDER, "folder"),
        "stills": config(DataKind.STILLS, "stills"),
        "synthetic": DataConfig(DataKind.SYNTHETIC),
    }


KINDS = ["davis2016", "davis2017", "youtube-vos", "folder", "stills", "synthetic"]


def sampled(source: Mixture, seed: int, length: int = 4) -> Clip:
    return source.sample(np.random.default_rng(seed), length, 64, 112)


@pytest.mark.parametrize("kind", KINDS)
def test_clips_show_their_object_and_depend_on_the_rng_alone(
    sets: dict[str, DataConfig], kind: str
) -> None:
    source, again = open_source([sets[kind]]), open_source([sets[kind]])
    kinds = set()
    for seed in range(12):
        clip = sampled(source, seed)
        assert clip.frames.shape == (4, 64, 112, 3)
        assert clip.masks.shape == (4, 1, 64, 112)
        assert clip.frames.dtype == clip.masks.dtype == np.uint8
        assert clip.masks[0].mean() > 255 * LEAST_SHARE
        assert clip.source.startswith(kind)
        other = sampled(again, seed)
        assert (clip.frames == other.frames).all()
        assert (clip.masks == other.masks).all()
        kinds.add(clip.frames.tobytes())
    assert len(kinds) == 12
    facts = source.facts()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["data"][0]["set"] == kind


def colours_inside(clip: Clip) -> set[str]:
    """Which squares are under the mask; border pixels are left out, and JPEG's smear."""
    solid = np.stack([cv2.erode(mask, np.ones((5, 5))) for mask in clip.masks[:, 0]]) > 250
    pixels = clip.frames[solid].astype(int)
    near = {"red": RED, "blue": BLUE, "green": GREEN}
    return {
        name
        for name, colour in near.items()
        if len(pixels) and (np.abs(pixels - colour).max(1) < 60).mean() > 0.03
    }


def test_masks_lie_on_their_object(sets: dict[str, DataConfig]) -> None:
    """Every kind of real clip: under the mask is a square, and only the one that is followed."""
    seen = {kind: {frozenset(colours_inside(sampled(open_source([sets[kind]]), seed)))
                   for seed in range(30)} for kind in KINDS[:4]}  # fmt: skip
    one = {frozenset({"red"}), frozenset({"blue"})}
    assert frozenset({"red", "blue"}) in seen["davis2016"]
    assert seen["davis2017"] - {frozenset()} == one
    assert seen["youtube-vos"] - {frozenset()} == one
    assert seen["folder"] - {frozenset()} == one


def test_listed_objects_are_followed_on_their_frames_alone(
    sets: dict[str, DataConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Object 1 is in every mask but listed from the third frame on."""
    read: list[str] = []
    original = videos_module.read_pair

    def noting(frame: Path, mask: Path) -> tuple[Picture, Picture]:
        read.append(frame.stem)
        return original(frame, mask)

    monkeypatch.setattr(videos_module, "read_pair", noting)
    source = open_source([replace(sets["youtube-vos"], memory=0)])
    assert not read, "a set that is too large is not decoded when it is opened"
    first = set()
    for seed in range(40):
        read.clear()
        clip = sampled(source, seed, length=5)
        assert len(read) % 5 == 0
        if colours_inside(clip) == {"red"}:
            first |= set(read[-5:])
    assert first == {f"{5 * t:05d}" for t in range(2, 10)}


def test_memory_changes_nothing_but_speed(sets: dict[str, DataConfig]) -> None:
    for kind in KINDS[:5]:
        held, lazy = open_source([sets[kind]]), open_source([replace(sets[kind], memory=0)])
        for seed in range(6):
            a, b = sampled(held, seed), sampled(lazy, seed)
            assert (a.frames == b.frames).all()
            assert (a.masks == b.masks).all()
            assert a.source == b.source
        for source, in_memory in ((held, True), (lazy, False)):
            assert bool(source._sets[0][1]._in_memory) is in_memory  # type: ignore[attr-defined]


@pytest.mark.parametrize("length", [1, 2, 5, 9])
@pytest.mark.parametrize("available", [1, 2, 3, 9, 40])
def test_excerpts_run_at_one_speed(available: int, length: int) -> None:
    starts, speeds = set(), set()
    for seed in range(150):
        chosen = excerpt(np.random.default_rng(seed), available, length, 6)
        assert len(chosen) == length
        assert all(0 <= i < available for i in chosen)
        steps = set(np.diff(chosen).tolist())
        if available >= length and length > 1:
            assert len(steps) == 1
            speeds |= steps
        else:
            assert steps <= {-1, 0, 1}  # there and back, or a still
            assert available == 1 or 0 not in steps
        starts.add(chosen[0])
    if available == 40 and length == 5:
        assert speeds == {1, 2, 3, 4, 5, 6}
        assert {0, 35} <= starts
    if available == 3 and length == 5:
        assert starts == {0, 1, 2}


def test_mixture_draws_by_weight(sets: dict[str, DataConfig]) -> None:
    data = [replace(sets["davis2016"], weight=3.0), replace(sets["stills"], weight=1.0)]
    source = open_source(data)
    drawn_from = [sampled(source, seed, 2).source.split()[0] for seed in range(200)]
    assert 0.65 < drawn_from.count("davis2016") / 200 < 0.85
    with pytest.raises(UserError, match="no data"):
        open_source([])


def test_a_mixture_gives_up_on_an_object_that_never_shows() -> None:
    class Dark:
        tries = 0

        def sample(self, rng: np.random.Generator, length: int, height: int, width: int) -> Clip:
            self.tries += 1
            shape = (length, height, width)
            masks = np.zeros((length, 1, height, width), np.uint8)
            return Clip(np.zeros((*shape, 3), np.uint8), masks, "dark")

        def facts(self) -> dict[str, object]:
            return {}

    dark = Dark()
    mixture = Mixture([(DataConfig(DataKind.SYNTHETIC), dark)], SkippedFiles())
    assert sampled(mixture, 0).source == "dark"
    assert dark.tries == 10


def test_halving_moves_nothing() -> None:
    """A disk that is drawn small has its centre where the map carries it, however often halved."""
    picture = np.zeros((151, 230), np.uint8)
    cv2.circle(picture, (100, 70), 40, 255, -1)
    for scale in (0.9, 0.5, 0.26, 0.11):
        matrix = np.array([[scale, 0.02, 5.3], [-0.02, scale, 4.1]], np.float32)
        small, level = pyramid_level(picture, scale)
        assert (level > 0) == (scale < 0.6)
        moments = cv2.moments(warp_affine(small, at_level(matrix, level), 160, 240))
        centre = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
        assert centre == pytest.approx(matrix @ (100, 70, 1), abs=0.15)


def test_laying_covers_the_object_or_shows_it() -> None:
    frame, masks = np.full((2, 2, 3), 100, np.uint8), np.full((2, 2, 2), 255, np.uint8)
    layer = np.zeros((2, 2, 4), np.uint8)
    layer[0] = (200, 0, 50, 255)
    layer[1, 0] = (200, 0, 50, 51)
    composite(frame, masks, layer, number=None)
    assert frame.tolist() == [[[200, 0, 50]] * 2, [[120, 80, 90], [100, 100, 100]]]
    assert masks.tolist() == [[[0, 0], [204, 255]]] * 2
    composite(frame, masks, layer, number=1)
    assert masks.tolist() == [[[0, 0], [163, 255]], [[255, 255], [214, 255]]]


def test_scenes_show_what_the_masks_say() -> None:
    """A red object between green and a blue board in front: red and the mask agree everywhere."""
    rng = np.random.default_rng(0)

    def walk(x: float, speed: float) -> Trajectory:
        return Trajectory.sample(rng, 6, centre=(x, 48.0), scale=1.0, angle=10.0, speed=speed)

    def cutout(colour: tuple[int, int, int], size: int) -> Picture:
        solid = np.full((size, size, 4), (*colour, 255), np.uint8)
        solid[:2] = solid[-2:] = solid[:, :2] = solid[:, -2:] = 0
        solid[..., :3] = colour
        return solid

    ground = Background(np.full((96, 160, 3), GREEN, np.uint8), walk(80, 0), (80, 48))
    deformation = Deformation(rng, 6, 96, 160, 0.03)
    target = Actor([Part.moving(cutout(RED, 60), walk(60, 3))], 0, deformation)
    board = Actor([Part.moving(cutout(BLUE, 40), walk(80, 0))])
    colour = ColourJitter(rng, PLAIN)
    frames, masks = draw(ground, [target, board], colour, 6, 96, 160)
    masks = masks[:, 0]
    red = (frames[..., 0] > 125) & (frames[..., 2] < 125)
    assert 500 < np.count_nonzero(masks[0] > 127) < 3600, "the board hides a part of the object"
    assert np.count_nonzero(red != (masks > 127)) < 0.004 * red.size
    free, free_masks = draw(ground, [board, target], colour, 6, 96, 160)
    assert (free_masks > 127).sum() > (masks > 127).sum()
    assert (free != frames).any()


def clip_of_squares(*corners: tuple[int, int], colour: tuple[int, int, int]) -> Clip:
    """A clip of one frame with a square of 8 pixels at each corner, on black."""
    frames = np.zeros((1, 32, 32, 3), np.uint8)
    masks = np.zeros((1, len(corners), 32, 32), np.uint8)
    for mask, (y, x) in zip(masks[0], corners, strict=True):
        frames[0, y : y + 8, x : x + 8] = colour
        mask[y : y + 8, x : x + 8] = 255
    return Clip(frames, masks, "squares")


@pytest.mark.parametrize("in_front", [True, False])
def test_objects_of_another_clip_are_pasted_in_front_or_behind(in_front: bool) -> None:
    clip = clip_of_squares((0, 0), colour=RED)
    joined = clip.with_objects_of(clip_of_squares((4, 4), (20, 20), colour=BLUE), in_front=in_front)
    own, near, far = (joined.masks[0] > 127).sum((1, 2)).tolist()
    assert (own, near, far) == ((48, 64, 64) if in_front else (64, 48, 64))
    assert joined.frames[0, 6, 6].tolist() == list(BLUE if in_front else RED)
    assert joined.frames[0, 24, 24].tolist() == list(BLUE)
    assert not joined.frames[0, 31, 0].any()
    assert joined.masks.sum(1).max() == 255, "a pixel is no more than one object's"


def test_several_objects_are_followed(sets: dict[str, DataConfig]) -> None:
    """Distractors and the objects of pasted clips are followed; a clip of one has one."""
    pasting = ObjectSampling((0.3, 0.4, 0.3), paste=0.5, paste_more=0.8)
    source = open_source([sets["davis2016"], sets["stills"]], objects=pasting)
    clips = [sampled(source, seed) for seed in range(40)]
    counts = [clip.masks.shape[1] for clip in clips]
    assert set(counts) == {1, 2, 3}
    assert all(len(clip.seen(LEAST_SHARE)) == clip.masks.shape[1] for clip in clips)
    assert any(" with " in clip.source for clip in clips if clip.masks.shape[1] == 1)
    with pytest.raises(ValueError, match="add up to 1"):
        ObjectSampling((0.5, 0.1))


def test_synthetic_objects_move_hide_and_have_doubles() -> None:
    """What makes them worth learning from, over many clips."""
    source = open_source([DataConfig(DataKind.SYNTHETIC)])
    clips = [source.sample(np.random.default_rng(seed), 8, 64, 112) for seed in range(40)]

    def centre(mask: Picture) -> NDArray[np.float64]:
        return np.argwhere(mask > 127).mean(0)

    gone = [clip for clip in clips if clip.masks[-1, 0].max() < 128]
    seen = [clip for clip in clips if clip.masks[-1, 0].max() >= 128]
    moved = [float(np.hypot(*(centre(c.masks[-1, 0]) - centre(c.masks[0, 0])))) for c in seen]
    assert np.median(moved) > 5, "pixels, of 112"
    shares = [float((clip.masks[0, 0] > 127).mean()) for clip in clips]
    assert min(shares) < 0.03
    assert max(shares) > 0.12
    assert len(gone) < 20
    still = [clip for clip in clips if (clip.frames[0] == clip.frames[-1]).all()]
    assert not still


def test_synthetic_numbers_are_obeyed() -> None:
    """No distractors, nothing in front, no noise, no limbs: the object is one whole shape."""
    alone = SyntheticSampling(others=0, front=0, noise=0, limbs=0, bend_chance=0, size=(0.3, 0.3))
    source = open_source([DataConfig(DataKind.SYNTHETIC, synthetic=alone)])
    for seed in range(15):
        clip = source.sample(np.random.default_rng(seed), 3, 96, 160)
        pieces, *_ = cv2.connectedComponents((clip.masks[0, 0] > 127).astype(np.uint8))
        assert pieces == 2  # the background and the object
        *_, w, h = cv2.boundingRect((clip.masks[0, 0] > 127).astype(np.uint8))
        assert max(w, h) < 0.3 * 96 * 1.3


def test_stills_have_distractors_and_occlusion(sets: dict[str, DataConfig]) -> None:
    """Cut-outs are of one square each: red or blue; another one may lie over it."""
    source = open_source([sets["stills"]])
    clips = [sampled(source, seed) for seed in range(60)]
    others = 0
    for clip in clips:
        inside = colours_inside(clip)
        assert inside <= {"red", "blue"} or "green" not in inside
        outside = clip.frames[0][clip.masks[0, 0] < 5].astype(int)
        for name, colour in (("red", RED), ("blue", BLUE)):
            others += name in inside and (np.abs(outside - colour).max(1) < 60).mean() > 0.02
    assert others > 5, "of the object's own colour"
    areas = [(clip.masks[:, 0] > 127).sum((1, 2)) for clip in clips]
    assert any(area.min() < 0.5 * area.max() for area in areas)
