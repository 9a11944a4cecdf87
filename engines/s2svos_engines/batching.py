"""The name that :class:`~s2svos_engines.dynamic_batcher.DynamicBatcher` had, for older programs."""

from __future__ import annotations

from s2svos_engines.dynamic_batcher import DynamicBatcher
from s2svos_engines.tracker import Tracker


class Gatherer(DynamicBatcher):
    """The same, with the names that its arguments had.

    Args:
        tracker: of the streams.
        patience: seconds, ``max_delay`` today.
        most: streams in a call, ``max_streams`` today.
    """

    def __init__(self, tracker: Tracker, *, patience: float = 0.005, most: int = 16) -> None:
        super().__init__(tracker, max_delay=patience, max_streams=most)
