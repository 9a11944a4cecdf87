"""Follow several videos at once, as a server does: python examples/many_streams.py VIDEO MASK."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

import s2svos
from s2svos_engines import DynamicBatcher

STREAMS = 3
tracker = s2svos.load()
mask = np.array(Image.open(sys.argv[2]))

with DynamicBatcher(tracker) as batcher:

    def follow(client: int) -> int:
        """Send the frames of a client, each when the mask of the one before has come."""
        frames = s2svos.read(sys.argv[1])
        stream = tracker.open(next(frames), mask)
        return sum(bool(batcher.submit(stream, frame).result().any()) for frame in frames)

    with ThreadPoolExecutor(STREAMS) as clients:
        for client, seen in enumerate(clients.map(follow, range(STREAMS))):
            print(f"stream {client}: objects seen in {seen} frames")
