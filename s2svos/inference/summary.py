"""Progress and summary of a run, as they are reported and written to ``run.json``."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from s2svos.inference.objects import ObjectSummary

_PREVIEW, _PREVIEW_WIDTH = 4, 320  # frames that a notebook shows, and pixels of each


@dataclass(frozen=True)
class InferProgress:
    """Progress of a run.

    Args:
        frames: done so far.
        expected: in all, or None where the video does not say.
        rate: frames a second since the first one.
        seconds_left: at that rate, or None where it is not known.
        dropped: frames of a live video that came too late to be done.
    """

    frames: int
    expected: int | None
    rate: float
    seconds_left: float | None
    dropped: int = 0

    @classmethod
    def after(
        cls, frames: int, *, before: int = 0, expected: int | None, seconds: float, dropped: int
    ) -> InferProgress:
        """Compute rate and time left from the seconds since the first frame was done.

        That is the first after those that an earlier run did ``before``.
        """
        own = frames - before
        rate = (own - 1) / seconds if own > 1 and seconds > 0 else 0.0
        # A live video ends by its own time: frames that are dropped count as well.
        seen = frames + dropped
        left = None if expected is None or not rate else max(0, expected - seen) / rate
        return cls(frames, expected, rate, left, dropped)


@dataclass(frozen=True)
class Seconds:
    """Time spent by stage; stages overlap, so they may add up to more than ``total``.

    Args:
        total: from the call to the last file.
        load: opening the bundle on the engine; next to 0 where that was done before the call.
        decode, step, write_masks, overlay: time in which that stage was busy; an input that
            arrives is waited for in ``decode``.
        first_mask: from the call to the network's first mask; None if it made none.
    """

    total: float
    load: float
    decode: float
    step: float
    write_masks: float
    overlay: float
    first_mask: float | None


@dataclass(frozen=True)
class RunSummary:
    """Summary of a run; ``run.json`` holds the same.

    Args:
        video, mask: what was read.
        later_masks: paths of the corrections, by the index of their frame.
        objects: what is known of each.
        mask_frame: the picture that the mask belongs to; None for the video's first frame.
        bundle, bundle_sha256, engine, precision: what segmented it.
        window: which part of the frames the network saw, ``auto`` or ``off``.
        frames_per_call: the most frames that it took at a time.
        frames: masks written.
        dropped: frames of a live video that came too late; None where none ever is dropped.
        damaged: packets of the video that could not be decoded, a frame each as a rule.
        size: width and height.
        rate: frames a second of the video.
        start, end: as they were asked for.
        complete: False where the run ended early.
        truncated: the video ended early.
        seconds: where the time went.
        version: of s2svos.
        masks, overlay: where the results are.
    """

    video: str
    mask: str
    later_masks: dict[int, str]
    objects: tuple[ObjectSummary, ...]
    mask_frame: str | None
    bundle: str
    bundle_sha256: str
    engine: str
    precision: str
    window: str
    frames_per_call: int
    frames: int
    dropped: int | None
    damaged: int
    size: tuple[int, int]
    rate: float
    start: int
    end: int | None
    complete: bool
    truncated: bool
    seconds: Seconds
    version: str
    masks: str
    overlay: str | None

    def tally(self) -> str:
        """Say in a sentence which results there are."""
        dropped = "" if self.dropped is None else f" ({self.dropped} late frames were dropped)"
        if self.damaged:
            packets = "packet" if self.damaged == 1 else "packets"
            dropped += f" ({self.damaged} damaged {packets} could not be decoded)"
        lost = "".join(one.text for one in self.objects)
        places = f"masks to {self.masks}" + (f", overlay {self.overlay}" if self.overlay else "")
        return f"{self.frames} frames{dropped}: {places}.{lost}"

    def _repr_png_(self) -> bytes | None:
        """Return what a notebook shows: four frames of the overlay, side by side."""
        if self.overlay is None:
            return None
        import cv2
        import numpy as np

        from s2svos.video.reader import Video

        shown = []
        for index in np.linspace(0, self.frames - 1, _PREVIEW).round().astype(int).tolist():
            for _, frame in Video(self.overlay, start=index, end=index + 1):
                height = round(_PREVIEW_WIDTH * frame.shape[0] / frame.shape[1])
                size = (_PREVIEW_WIDTH, height)
                shown.append(cv2.resize(frame, size, interpolation=cv2.INTER_AREA))
        if not shown:
            return None
        return cv2.imencode(".png", np.hstack(shown)[..., ::-1])[1].tobytes()

    def facts(self) -> dict[str, Any]:
        """Return what ``run.json`` holds: all of this, seconds to the tenth of a millisecond."""
        facts = asdict(self)
        seconds = facts["seconds"]
        facts["seconds"] = {key: value and round(value, 4) for key, value in seconds.items()}
        return facts
