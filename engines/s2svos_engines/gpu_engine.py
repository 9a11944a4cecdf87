"""What all engines on an NVIDIA GPU have in common."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import BATCH, TensorSpec
from s2svos_engines.device import DeviceArray, Gpu, GpuStream
from s2svos_engines.engine import States
from s2svos_engines.frames import GpuPicture, Picture
from s2svos_engines.gpu_cell import GpuCell
from s2svos_engines.gpu_shrink import Shrinker

Arrays = Mapping[TensorSpec, DeviceArray]
"""For every input and output of a graph, the array that it is."""


class GpuEngine(ABC):
    """Runs graphs on arrays that stay on the GPU; how, the engine says with :meth:`bind`.

    Args:
        bundle: with the graphs.
        precision: of the graphs.

    Raises:
        UserError: there is no GPU, or cuda-core is missing.
    """

    name: str
    on_gpu = True
    ahead = 2
    captures = True
    """Whether what it starts can be captured as a CUDA graph."""

    def __init__(self, bundle: Bundle, *, precision: str) -> None:
        self.contract = bundle.contract
        self.precision = precision
        self.frames_per_call = bundle.frames_per_call(precision)
        self.batches = BATCH in bundle.graph_names(precision)
        self.gpu = Gpu()
        self._shrinker = Shrinker(self.gpu)

    @abstractmethod
    def bind(self, graph: str, stream: GpuStream, *sets: Arrays) -> list[Callable[[], None]]:
        """Prepares a graph.

        Args:
            graph: its name.
            stream: on which it will run, one call after the other.
            sets: of arrays on which it will run.

        Returns:
            For each set what starts the graph on it.

        Raises:
            UserError: the graph cannot be run, or the GPU's memory is full.
        """

    def capture(self, stream: GpuStream, work: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of what ``work`` gives to a stream.

        Returns:
            What launches it, as often as one likes.
        """
        return partial(stream.launch, stream.capture(work))

    def stream(self) -> GpuStream:
        """The stream on which a new cell computes."""
        return self.gpu.stream()

    def init(self, frame: Picture, first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        self.gpu.use()
        stream, interface = self.stream(), self.contract.interface("init")
        specs = (*interface.inputs, *interface.outputs)
        sizes = [spec.sizes(objects=len(first_masks)) for spec in specs]
        arrays = {
            spec: stream.array(size, spec.dtype) for spec, size in zip(specs, sizes, strict=True)
        }
        pictures, masks = (arrays[spec] for spec in interface.inputs)
        self.place(stream, pictures, [frame])
        masks.upload(stream, first_masks)
        (start,) = self.bind("init", stream, arrays)
        start()
        states = [arrays[spec].download(stream) for spec in interface.outputs]
        stream.wait()
        return states

    def cell(self, states: States, owners: NDArray[np.int64] | None = None) -> GpuCell:
        """A cell that starts from a copy of ``states``."""
        return GpuCell(self, states, owners)

    def place(self, stream: GpuStream, pictures: DeviceArray, frames: Sequence[Picture]) -> None:
        """Starts to bring frames to a graph's input, uint8 [H, W, 3] or [T, H, W, 3]."""
        *_, height, width, channels = pictures.shape
        if len(frames) * height * width * channels != math.prod(pictures.shape):
            raise ValueError(f"{len(frames)} frames for an input of {pictures.shape}")
        from_host = [one for one in enumerate(frames) if not isinstance(one[1], GpuPicture)]
        if from_host:
            places = pictures.host.reshape(-1, height, width, channels)
            for place, frame in from_host:
                places[place][...] = frame
            pictures.send(stream)  # all of it, before those on the GPU come into their places
        for place, frame in enumerate(frames):
            if isinstance(frame, GpuPicture):
                address = pictures.address + place * height * width * channels
                self._shrinker.shrink(stream, frame, address)
