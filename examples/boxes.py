"""Print where objects are, frame by frame: python examples/boxes.py VIDEO MASK."""

import sys

import cv2
import numpy as np
from PIL import Image

import s2svos

frames = s2svos.read(sys.argv[1])  # whatever yields uint8 [H, W, 3] RGB: a camera, a decoder
mask = np.array(Image.open(sys.argv[2]))
stream = s2svos.load(window="auto").open(next(frames), mask)
for index, frame in enumerate(frames, 1):
    labels = stream.step(frame)
    for one in stream.ids:
        left, top, width, height = cv2.boundingRect(np.asarray(labels == one, np.uint8))
        sure = stream.confidence[int(one)].certainty
        print(f"{index} object {one}: {left},{top} {width}x{height}, certainty {sure:.2f}")
