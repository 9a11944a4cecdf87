"""Follow the objects of a video with the model on a Triton server, and write a mask a frame.

    pip install "s2svos[triton]"
    python -m s2svos.triton_client video.mp4 --mask first.png --out masks --url localhost:8001

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
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from s2svos import UserError
from s2svos.video.masks import read_first_mask, write_mask
from s2svos.video.reader import Video
from s2svos_engines.arrays import Frame, Labels, object_ids
from s2svos_engines.files import disk_errors
from s2svos_engines.letterbox import Letterbox, merge_masks, object_masks

MAX_IN_FLIGHT = 3  # requests that are on the way while an answer is awaited
LARGEST = 8192  # rows or columns of a network that a server may state


def follow(
    client: InferenceServerClient,
    model: str,
    frames: Iterable[Frame],
    first: Labels,
    *,
    timeout: float,
) -> Iterator[Labels]:
    """Follow objects through a video.

    Args:
        client: of the server.
        model: its name there.
        frames: of the size of ``first``.
        first: ids of the objects on the first frame.
        timeout: seconds to wait for each answer.

    Yields:
        the ids on each frame, ``first`` on the first.

    Raises:
        InferenceServerException: the server cannot be reached, refuses or stalls, or answers what
            is no answer.
    """
    version, size = _served(client, model, timeout)
    letterbox = Letterbox.of(first.shape, size)
    ids = object_ids(first)
    masks = np.stack([letterbox.resize(one) for one in object_masks(first, ids)])

    answers: SimpleQueue[tuple[Any, Any]] = SimpleQueue()
    client.start_stream(lambda result, error: answers.put((result, error)))

    def answer() -> Labels:
        try:
            result, error = answers.get(timeout=timeout)
        except Empty:
            raise InferenceServerException(f"no answer for {timeout:g} s") from None
        if error:
            raise error
        found = result.as_numpy("object_masks")
        if found is None or found.dtype != np.uint8 or found.shape != (len(ids), *size):
            raise InferenceServerException("the answer holds no masks of the objects")
        return merge_masks(found, ids, letterbox)

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


def _served(
    client: InferenceServerClient, model: str, timeout: float
) -> tuple[str, tuple[int, int]]:
    """Return the newest version of a model, and the rows and columns of its frame.

    Raises:
        InferenceServerException: the server has no such model, or one that is not of s2svos.
    """
    metadata = client.get_model_metadata(model, client_timeout=timeout)
    shapes = [tuple(map(int, one.shape)) for one in metadata.inputs if one.name == "frame"]
    versions = [one for one in metadata.versions if one.isascii() and one.isdecimal()]
    rows, columns = shapes[0][:2] if shapes and len(shapes[0]) == 3 else (0, 0)
    if not versions or not 0 < min(rows, columns) <= max(rows, columns) <= LARGEST:
        raise InferenceServerException(f"the model {model!r} is not one that s2svos exported")
    return max(versions, key=int), (rows, columns)  # to the end, even if a newer one is loaded


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
    parser.add_argument("--timeout", type=float, default=60, help="seconds for each answer")
    options = parser.parse_args()
    try:
        _run(options)
    except InferenceServerException as error:
        sys.exit(f"{options.url} did not follow the objects of {options.video}: {error}")
    except UserError as error:
        sys.exit(str(error))


def _run(options: argparse.Namespace) -> None:
    video = Video(options.video, beside=[options.mask])
    first = read_first_mask(options.mask, size=(video.height, video.width))
    out: Path = options.out
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UserError(f"{out} is not empty", "choose another --out")
    began, count = time.perf_counter(), 0
    frames = (frame for _, frame in video)
    with InferenceServerClient(options.url) as client:
        followed = follow(client, options.model, frames, first.ids, timeout=options.timeout)
        for count, labels in enumerate(followed, 1):
            with disk_errors(out):
                write_mask(out / f"{count - 1:05d}.png", labels, first.palette)
    rate = count / (time.perf_counter() - began)
    print(f"{count} frames: masks in {out}; {rate:.1f} frames/s.")


if __name__ == "__main__":
    main()
