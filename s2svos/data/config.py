"""The settings of data sets and of the sampling of clips. Saved with each checkpoint."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum

from s2svos_engines.errors import UserError

Range = tuple[float, float]  # drawn uniformly


@dataclass(frozen=True)
class Phase:
    """A phase of training, with clips of one size and length.

    Args:
        steps: optimiser steps.
        batch: clips a step, over all processes.
        length: frames a clip.
        height, width: pixels.
    """

    steps: int
    batch: int
    length: int
    height: int
    width: int


class DataKind(StrEnum):
    """The kinds of data sets: how their files lie, or that they need none."""

    DAVIS = "davis"
    YOUTUBE_VOS = "youtube-vos"
    STILLS = "stills"
    FOLDER = "folder"
    SYNTHETIC = "synthetic"


@dataclass(frozen=True)
class ColourSampling:
    """One change of colour for a clip, with a little more for each frame.

    Args:
        gain: of all channels.
        channel_gain, channel_gain_chance: of each channel by itself, and how often.
        frame_gain: of each frame by itself.
        bias: added, in grey levels.
        saturation: 1 leaves it.
        pale, pale_chance: saturation of clips that are nearly grey, and how often.
        blur_chance: how often a clip is blurred a little.
    """

    gain: Range = (0.7, 1.3)
    channel_gain: Range = (0.75, 1.25)
    channel_gain_chance: float = 0.4
    frame_gain: Range = (0.95, 1.05)
    bias: Range = (-25.0, 25.0)
    saturation: Range = (0.6, 1.4)
    pale: Range = (0.0, 0.3)
    pale_chance: float = 0.06
    blur_chance: float = 0.1


@dataclass(frozen=True)
class VideoSampling:
    """Excerpts of videos.

    Args:
        max_speed: annotated frames of the video to one of the clip, from 1; less where the video
            is short. None: 6, and 2 for YouTube-VOS, where every fifth frame is annotated.
        reverse: share of the clips that run backwards.
        mirror: share that is mirrored.
        log_scale: logarithm of the magnification, 0 where the frame just fills the clip.
        angle: standard deviation of the rotation, degrees.
        centre: where the point that is looked at lies, as shares of width and height.
        towards_object: how far that point is moved from the frame's middle to the object's.
        moving: share of the clips in which the camera moves besides.
        camera_speed: of that motion, widths of the clip a frame, standard deviation.
    """

    max_speed: int | None = None
    reverse: float = 0.5
    mirror: float = 0.5
    log_scale: Range = (-0.1, 0.6)
    angle: float = 6.0
    centre: Range = (0.4, 0.6)
    towards_object: Range = (0.0, 1.0)
    moving: float = 0.5
    camera_speed: float = 0.01


@dataclass(frozen=True)
class StillSampling:
    """Stills set in motion: a camera over one picture, or cut-outs that move over another.

    Args:
        least_share: objects that cover less of their picture are not followed.
        camera: share of the clips with a camera alone; the others have cut-outs.
        ground_scale: magnification of the background, 1 where it just fills the clip.
        ground_angle: standard deviation of its rotation, degrees.
        ground_speed: of its motion, widths of the clip a frame, standard deviation.
        ground_bend: deformation of a clip with a camera alone, shares of the height.
        others: largest number of distractors.
        twin: share of the clips in which the object's mirror image is one more distractor.
        size: longer side of a cut-out, heights of the clip; its logarithm is drawn uniformly.
        across, down: where a cut-out starts, shares of width and height.
        angle: standard deviation of its rotation, degrees.
        speed, speed_factor: of its motion, widths of the clip a frame, and what it is times by.
        bend: deformation of the object, shares of the height.
        mirror, recolour: shares of the cut-outs that are mirrored, and that change colour.
    """

    least_share: float = 0.004
    camera: float = 0.35
    ground_scale: Range = (1.0, 1.5)
    ground_angle: float = 8.0
    ground_speed: float = 0.02
    ground_bend: Range = (0.0, 0.03)
    others: int = 3
    twin: float = 0.15
    size: Range = (0.12, 0.9)
    across: Range = (0.1, 0.9)
    down: Range = (0.15, 0.85)
    angle: float = 12.0
    speed: float = 0.035
    speed_factor: Range = (0.1, 1.5)
    bend: Range = (0.0, 0.04)
    mirror: float = 0.5
    recolour: float = 0.5


@dataclass(frozen=True)
class ObjectSampling:
    """How many objects of a clip are followed, and how often another clip's are pasted into it.

    Args:
        counts: shares of the clips in which 1, 2, 3 and so on are followed, if so many are seen on
            the first frame.
        paste: share of the clips of one followed object that get another clip's objects, as
            distractors.
        paste_more: the same of clips of several, where they are followed too.
        front: share of these in which the pasted objects are in front.
    """

    counts: tuple[float, ...] = (1.0,)
    paste: float = 0.0
    paste_more: float = 0.0
    front: float = 0.5

    def __post_init__(self) -> None:
        if not (self.counts and min(self.counts) >= 0 and math.isclose(sum(self.counts), 1)):
            raise ValueError(f"counts are shares that add up to 1, not {list(self.counts)}")


ONE_OBJECT = ObjectSampling()


@dataclass(frozen=True)
class SyntheticSampling:
    """Clips drawn by formula: textured creatures that move over a textured background.

    Args:
        size: of a creature's trunk, heights of the clip; its logarithm is drawn uniformly.
        slimness: longer side of a trunk to its shorter one, at most.
        limbs: largest number of limbs of a creature.
        swing: largest angle by which a limb swings to each side, degrees.
        others: largest number of distractors.
        twin, cousin: shares of the distractors that look just like the object, and that have its
            texture on another shape.
        camouflage: share of the clips whose background has the object's texture.
        front: largest number of things that stand in front of everything.
        bend, bend_chance: deformation of a creature, shares of the height, and how often.
        angle: standard deviation of a creature's rotation, degrees.
        speed, speed_factor: of a creature, widths of the clip a frame, and what it is times by.
        ground_speed: of the camera, widths of the clip a frame, standard deviation.
        noise: of the sensor, grey levels at most.
    """

    size: Range = (0.15, 1.0)
    slimness: float = 2.5
    limbs: int = 4
    swing: float = 50.0
    others: int = 4
    twin: float = 0.2
    cousin: float = 0.2
    camouflage: float = 0.1
    front: int = 2
    bend: Range = (0.0, 0.04)
    bend_chance: float = 0.6
    angle: float = 15.0
    speed: float = 0.03
    speed_factor: Range = (0.1, 1.5)
    ground_speed: float = 0.015
    noise: int = 12


@dataclass(frozen=True)
class DataConfig:
    """One data set of a training.

    Args:
        kind: how the files lie.
        root: folder of the data set; none for ``synthetic``.
        split: of DAVIS (several are joined with ``+``) and YouTube-VOS.
        year: of DAVIS, 2016 (one object) or 2017 (objects by id).
        weight: how many of the clips come from this set, beside the weights of the others.
        memory: GB of decoded pictures up to which the set is held in memory; larger ones are
            decoded from their files for every clip.
        colour, video, still, synthetic: numbers of the sampling; those of other kinds are unused.
    """

    kind: DataKind
    root: str | None = None
    split: str = "train"
    year: int = 2016
    weight: float = 1.0
    memory: float = 2.0
    colour: ColourSampling = field(default_factory=ColourSampling)
    video: VideoSampling = field(default_factory=VideoSampling)
    still: StillSampling = field(default_factory=StillSampling)
    synthetic: SyntheticSampling = field(default_factory=SyntheticSampling)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", DataKind(self.kind))
        if (self.root is None) != (self.kind is DataKind.SYNTHETIC):
            wanted = "needs no folder" if self.root else "needs the folder of the data set"
            raise UserError(f"The data {self.kind.value} {wanted}", f"write it as in {EXAMPLES}")
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise UserError(
                f"The weight {self.weight} of the data {self.kind.value} is not above 0."
            )

    @property
    def label(self) -> str:
        """The set's name in messages: ``davis2017``."""
        return f"{self.kind.value}{self.year if self.kind is DataKind.DAVIS else ''}"


EXAMPLES = "davis=DIR, davis2017=DIR, youtube-vos=DIR, stills=DIR, folder=DIR or synthetic"


def parse_data(text: str) -> DataConfig:
    """Parse a data set of the command line.

    Args:
        text: ``davis=DIR``, ``davis2017=DIR``, ``youtube-vos=DIR``, ``stills=DIR``,
            ``folder=DIR`` or ``synthetic``, each with ``:WEIGHT`` after it or not.

    Raises:
        UserError: it is none of these.
    """
    body, colon, tail = text.rpartition(":")
    weight = 1.0
    try:
        weight = float(tail) if colon else 1.0
    except ValueError:
        body = text  # the colon belongs to the folder
    else:
        body = body if colon else text
    name, _, root = body.partition("=")
    year = 2017 if name == "davis2017" else 2016
    name = "davis" if name in ("davis2016", "davis2017") else name
    if name not in list(DataKind):
        raise UserError(f"{text!r} names no data set", f"write {EXAMPLES}, with :WEIGHT after it")
    return DataConfig(DataKind(name), root or None, year=year, weight=weight)
