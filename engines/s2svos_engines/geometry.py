"""The names that :mod:`s2svos_engines.letterbox` had, for Triton clients that were written then."""

from __future__ import annotations

from s2svos_engines.arrays import Frame
from s2svos_engines.letterbox import Letterbox, merge_masks

__all__ = ["Fit", "merge"]

merge = merge_masks


class Fit(Letterbox):
    """A letterbox with the old name of its method."""

    def shrink(self, picture: Frame) -> Frame:
        """Do what :meth:`Letterbox.resize` does."""
        return self.resize(picture)
