"""The findings of the doctor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """Whether a finding is a problem."""

    OK = "ok"
    INFO = "info"  # worth to know; nothing is wrong
    PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """One thing that was examined.

    Args:
        topic: what it is about, one or two words.
        state: whether something is wrong.
        text: what was found.
        remedy: what to type or do about it; empty where there is nothing to do.
        figures: JSON types for programs: what was measured, names, versions.
    """

    topic: str
    state: State
    text: str
    remedy: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the finding as JSON types."""
        return asdict(self)
