"""Follow the objects of a video with the model on a Triton server, and write a mask a frame.

    pip install "s2svos[triton]"
    python client.py video.mp4 --mask first.png --out masks --url localhost:8001

The first request of the sequence brings the objects' masks, each of the others a frame alone: the
objects' state stays on the server. All requests go through one gRPC stream, so that they meet the
same server behind a load balancer.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.letterbox import Letterbox, merge_masks, object_masks

MAX_IN_FLIGHT = 3  # requests that are on the way while an answer is awaited


def follow(
    client: InferenceServerClient, model: str, frames: Iterable[Frame], first: Labels
) -> Iterator[Labels]:
    """Follow objects through a video.

    Args:
        client: of the server.
        model: its name there.
        frames: of the size of ``first``.
        first: ids of the objects on the first frame.

    Yields:
        the ids on each frame, ``first`` on the first.

    Raises:
        InferenceServerException: the server cannot be reached or refuses.
    """
    metadata = client.get_model_metadata(model)
    version = max(metadata.versions, key=int)  # to the end, even if a newer one is loaded
    rows, columns = next(one.shape for one in metadata.inputs if one.name == "frame")[:2]
    letterbox = Letterbox.of(first.shape, (rows, columns))
    ids = np.unique(first[first > 0])
    masks = np.stack([letterbox.resize(one) for one in object_masks(first, ids)])

    answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))

    def answer() -> Labels:
        result, error = answers.get()
        if error:
            raise error
        return merge_masks(result.as_numpy("object_masks"), ids, letterbox)

    sequence = random.getrandbits(63) | 1  # 0 would mean none
    sent = received = 0
    try:
        for frame, last in _with_last_flag(frames):
            inputs = [_input("frame", letterbox.resize(frame))]
            if not sent:
                inputs.append(_input("first_masks", masks))
            client.async_stream_infer(
                model,
                inputs,
                model_version=version,
                sequence_id=sequence,
                sequence_start=not sent,
                sequence_end=last,
            )
            sent += 1
            while sent - received > (0 if last else MAX_IN_FLIGHT):
                labels = answer()
                yield labels if received else first
                received += 1
    finally:
        client.stop_stream(cancel_requests=sent > received)


def read_video(path: Path) -> Iterator[Frame]:
    """Yield the frames of a video, upright."""
    video = cv2.VideoCapture(str(path))
    while (read := video.read())[0]:
        yield np.asarray(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB), np.uint8)


def _input(name: str, array: NDArray[np.uint8]) -> InferInput:
    tensor = InferInput(name, array.shape, "UINT8")
    tensor.set_data_from_numpy(array)
    return tensor


def _with_last_flag(frames: Iterable[Frame]) -> Iterator[tuple[Frame, bool]]:
    left = iter(frames)
    after = next(left, None)
    while after is not None:
        frame, after = after, next(left, None)
        yield frame, after is None


def main() -> None:
    """Parse the command line and follow the objects."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("video", type=Path)
    parser.add_argument(
        "--mask", type=Path, required=True, help="PNG, palette index or grey value = object's id"
    )
    parser.add_argument("--out", type=Path, default=Path("masks"), help="folder for the masks")
    parser.add_argument("--url", default="localhost:8001", help="the server's gRPC address")
    parser.add_argument("--model", default="s2svos")
    options = parser.parse_args()

    mask = Image.open(options.mask)
    first = np.asarray(mask if mask.mode == "P" else mask.convert("L"), np.uint8)
    frames = read_video(options.video)
    frame = next(frames, None)
    if frame is None:
        sys.exit(f"{options.video} is not a video that can be read.")
    if frame.shape[:2] != first.shape:
        sys.exit(f"{options.mask} has not the size of the video; draw it on the first frame.")
    if not first.any():
        sys.exit(f"{options.mask} marks no object; paint each with its id, 1 to 255.")

    options.out.mkdir(parents=True, exist_ok=True)
    began, count = time.perf_counter(), 0
    try:
        with InferenceServerClient(options.url) as client:
            for labels in follow(client, options.model, chain([frame], frames), first):
                picture = Image.fromarray(labels)
                if mask.mode == "P":
                    picture.putpalette(mask.getpalette() or [])
                picture.save(options.out / f"{count:05d}.png")
                count += 1
    except InferenceServerException as error:
        sys.exit(f"{options.url} did not follow the objects of {options.video}: {error}")
    rate = count / (time.perf_counter() - began)
    print(f"{count} frames: masks in {options.out}; {rate:.1f} frames/s.")


if __name__ == "__main__":
    main()
