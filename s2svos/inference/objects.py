"""What a run tells of each object: how sure the network was, and where it lost it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from s2svos_engines.confidence import Confidence

SHOWN = 3  # stretches that a sentence names


@dataclass(frozen=True)
class ObjectSummary:
    """An object over the frames that were followed forwards.

    Args:
        id: of the object.
        name: what it is called; empty if it has no name.
        certainty: mean of :attr:`~s2svos_engines.confidence.Confidence.certainty`, of the frames
            on which it was found; 0 if there is none.
        lost: first and last frame, by name, of each stretch on which nothing of it was found.
        doubtful: likewise, on which it was found but hardly likely.
    """

    id: int
    name: str
    certainty: float
    lost: tuple[tuple[str, str], ...]
    doubtful: tuple[tuple[str, str], ...]

    @property
    def text(self) -> str:
        """A sentence on where it was lost; empty if it never was."""
        if not self.lost:
            return ""
        parts = [a if a == b else f"{a} to {b}" for a, b in self.lost[:SHOWN]]
        more = f" and {len(self.lost) - SHOWN} more times" if len(self.lost) > SHOWN else ""
        name = self.name or f"Object {self.id}"
        return f" {name} was out of sight or lost in frames {', '.join(parts)}{more}."


@dataclass
class _Record:
    sum: float = 0.0
    found: int = 0
    lost: list[list[str]] = field(default_factory=list)
    doubtful: list[list[str]] = field(default_factory=list)
    state: str = ""  # on the frame before


class ObjectRecords:
    """Collects, frame by frame, what :class:`ObjectSummary` tells."""

    def __init__(self) -> None:
        self._records: dict[int, _Record] = {}

    def add(self, name: str, confidence: Mapping[int, Confidence]) -> None:
        """Take the objects of the next frame, which has this name."""
        for one, sure in confidence.items():
            record = self._records.setdefault(one, _Record())
            state = "lost" if sure.lost else "doubtful" if sure.doubtful else "sure"
            if not sure.lost:
                record.sum += sure.certainty
                record.found += 1
            if state != "sure":
                stretches = record.lost if state == "lost" else record.doubtful
                if record.state == state:
                    stretches[-1][1] = name
                else:
                    stretches.append([name, name])
            record.state = state

    def to_json(self) -> dict[str, Any]:
        """Return what was collected, as JSON types, for :meth:`from_json`."""
        return {str(one): asdict(record) for one, record in self._records.items()}

    @classmethod
    def from_json(cls, facts: Mapping[str, Any]) -> ObjectRecords:
        """Go on with what another one had collected."""
        records = cls()
        records._records = {int(one): _Record(**record) for one, record in facts.items()}
        return records

    def summaries(self, names: Mapping[int, str]) -> tuple[ObjectSummary, ...]:
        """Return what is known of each object, by rising ids, with its name."""
        return tuple(
            ObjectSummary(
                one,
                names.get(one, ""),
                round(record.sum / max(1, record.found), 4),
                tuple((a, b) for a, b in record.lost),
                tuple((a, b) for a, b in record.doubtful),
            )
            for one, record in sorted(self._records.items())
        )
