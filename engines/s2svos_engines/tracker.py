"""Tracker and stream: the weights that are shared, and the state that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.engine import Cell, Engine, States, load_engine
from s2svos_engines.errors import UserError
from s2svos_engines.geometry import Fit, merge

Frame = NDArray[np.uint8]
Labels = NDArray[np.uint8]


class Tracker:
    """A network on an engine. Immutable; any number of streams may be open on it.

    Args:
        bundle: where the network came from.
        engine: its graphs, compiled.
    """

    def __init__(self, bundle: Bundle, engine: Engine) -> None:
        self.bundle = bundle
        self.engine = engine

    @classmethod
    def load(
        cls,
        path: Path,
        *,
        engine: str = "auto",
        precision: str = "fp32",
        threads: int | None = None,
    ) -> Tracker:
        """Opens a bundle on an engine.

        Args:
            path: of the bundle.
            engine: ``openvino``, ``onnxruntime``, or ``auto`` for the fastest that is installed.
            precision: of the graphs: ``fp32``, or ``fp16`` or ``int8`` where the bundle has them.
            threads: processor threads of a step; None for one a core.

        Raises:
            UserError: the bundle or the engine cannot be used.
        """
        bundle = Bundle.open(path)
        return cls(bundle, load_engine(bundle, engine, precision=precision, threads=threads))

    @property
    def engine_name(self) -> str:
        """Which engine runs the network."""
        return self.engine.name

    def open(self, frame: Frame, mask: Labels) -> Stream:
        """Starts to follow objects.

        Args:
            frame: uint8 [H, W, 3], RGB, the first frame; any size.
            mask: uint8 [H, W], ids of the objects in it, 0 for the background.

        Raises:
            UserError: wrong types or shapes, or the mask holds no object.
        """
        return Stream(self, frame, mask)


class Stream:
    """One video and the objects followed in it. Not to be stepped by two threads at once.

    Attributes:
        labels: uint8 [H, W], the ids on the latest frame.
        ids: uint8 [N], the objects that are followed.
    """

    labels: Labels
    ids: NDArray[np.uint8]

    def __init__(self, tracker: Tracker, frame: Frame, mask: Labels) -> None:
        if frame.ndim != 3 or frame.shape[2] != 3 or frame.dtype != np.uint8:
            raise UserError(f"A frame is uint8 [H, W, 3], not {frame.dtype} {list(frame.shape)}.")
        contract = tracker.bundle.contract
        self._engine = tracker.engine
        self._fit = Fit.of(frame.shape[:2], (contract.height, contract.width))
        self._cell: Cell | None = None
        self.ids = np.zeros(0, np.uint8)
        self.labels = np.zeros(frame.shape[:2], np.uint8)
        self.add(frame, mask)

    def step(self, frame: Frame) -> Labels:
        """Follows the objects into the next frame.

        Args:
            frame: uint8 [H, W, 3], RGB, of the first frame's size.

        Returns:
            uint8 [H, W], ids of the objects, 0 for the background.

        Raises:
            UserError: the frame has another type or size.
        """
        self._check(frame, np.uint8, (*self._fit.native, 3))
        masks = np.zeros((0, 0, 0), np.uint8)
        if self._cell:
            masks = self._cell.step(self._fit.shrink(frame))
        self.labels = merge(masks, self.ids, self._fit)
        return self.labels

    def add(self, frame: Frame, mask: Labels) -> Labels:
        """Follows further objects, which enter on the latest frame.

        Args:
            frame: uint8 [H, W, 3], RGB, the frame that was stepped last.
            mask: uint8 [H, W], ids of the new objects, 0 elsewhere.

        Returns:
            uint8 [H, W], the latest labels with the new objects over them.

        Raises:
            UserError: wrong types or shapes, no object, or an id that is followed already.
        """
        self._check(frame, np.uint8, (*self._fit.native, 3))
        self._check(mask, np.uint8, self._fit.native)
        new = np.unique(mask[mask > 0])
        if not len(new):
            raise UserError("The mask holds no object; mark each object with its id, 1 to 255.")
        if len(known := np.intersect1d(new, self.ids)):
            raise UserError(f"Object {known[0]} is followed already; give a new object a new id.")
        objects = [self._fit.shrink((mask == one).astype(np.uint8) * np.uint8(255)) for one in new]
        states = self._engine.init(self._fit.shrink(frame), np.stack(objects))
        if self._cell:
            pairs = zip(self._cell.states(), states, strict=True)
            states = [np.concatenate(pair) for pair in pairs]
        self._keep(np.concatenate([self.ids, new]), states)
        self.labels = np.where(mask > 0, mask, self.labels)
        return self.labels

    def remove(self, *ids: int) -> None:
        """Stops following objects.

        Raises:
            UserError: an id is not followed.
        """
        if unknown := set(ids) - set(self.ids.tolist()):
            raise UserError(f"Object {min(unknown)} is not followed; the ids are {self.ids}.")
        keep = ~np.isin(self.ids, ids)
        states = [state[keep] for state in self._cell.states()] if self._cell else []
        self._keep(self.ids[keep], states)

    def _keep(self, ids: NDArray[np.uint8], states: States) -> None:
        self.ids = ids
        self._cell = self._engine.cell(states) if len(ids) else None

    @staticmethod
    def _check(array: NDArray[np.uint8], dtype: type, shape: tuple[int, ...]) -> None:
        if array.dtype != dtype or array.shape != shape:
            raise UserError(
                f"Expected {np.dtype(dtype)} {list(shape)}, got {array.dtype} {list(array.shape)}; "
                "every frame and mask of a stream has the size of its first frame."
            )
