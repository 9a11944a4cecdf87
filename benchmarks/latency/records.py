"""Results as JSON lines: a heat, which is one bundle on one machine, a line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from s2svos_engines.errors import UserError

BENCHMARK = "latency"

Heat = dict[str, Any]
Row = dict[str, Any]


def append(path: Path, heat: Heat) -> None:
    """Appends a heat; ``path`` and its folder are made where missing.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(heat) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another.") from error


def read(path: Path) -> list[Heat]:
    """The heats of a file; lines of other benchmarks are left out.

    Raises:
        UserError: missing, damaged or without a heat.
    """
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error}); name what run wrote.") from error
    heats = [line for line in lines if line.get("benchmark") == BENCHMARK]
    if not heats:
        raise UserError(f"{path} holds no result of the latency suite; name what run wrote.")
    return heats


def measured(path: Path) -> set[str]:
    """SHA-256 of the bundles that a file has results of."""
    return {heat["bundle"] for heat in read(path)} if path.exists() else set()


def label(row: Row) -> str:
    """A row's contestant in words."""
    words = f"{row['contestant']} {row['precision']}, {row['objects']} object"
    words += "s" if row["objects"] > 1 else ""
    return words + (f", {row['streams']} streams" if row["streams"] > 1 else "")


def find(heat: Heat, contestant: str, precision: str, objects: int = 1) -> Row | None:
    """The row of a contestant with one stream."""
    wanted = (contestant, precision, objects, 1)
    for row in heat["rows"]:
        if (row["contestant"], row["precision"], row["objects"], row["streams"]) == wanted:
            return dict(row)
    return None
