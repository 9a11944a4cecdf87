"""Results as JSON lines: a heat, which is one bundle on one machine, a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
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
        raise UserError(f"{path} cannot be written ({error.strerror})", "choose another") from error


def read(path: Path) -> list[Heat]:
    """The heats of a file; lines of other benchmarks are left out.

    Raises:
        UserError: missing, damaged, of an earlier form or without a heat.
    """
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})", "name what run wrote") from error
    heats = [line for line in lines if line.get("benchmark") == BENCHMARK]
    if not heats:
        raise UserError(f"{path} holds no result of the latency suite", "name what run wrote")
    if not all("groups" in heat for heat in heats):
        raise UserError(f"{path} is of an earlier form, without groups", "measure again")
    return heats


def measured(path: Path) -> set[str]:
    """SHA-256 of the bundles that a file has results of."""
    return {heat["bundle"] for heat in read(path)} if path.exists() else set()


def label(row: Row) -> str:
    """A row's contestant in words."""
    words = f"{row['contestant']} {row['precision']}, {row['objects']} object"
    words += "s" if row["objects"] > 1 else ""
    return words + (f", {row['streams']} streams" if row["streams"] > 1 else "")


def find(
    rows: Iterable[Row], contestant: str, precision: str, objects: int = 1, streams: int = 1
) -> Row | None:
    """The row of a contestant, the first of several; those of a group took turns."""
    wanted = (contestant, precision, objects, streams)
    for row in rows:
        if (row["contestant"], row["precision"], row["objects"], row["streams"]) == wanted:
            return row
    return None


def by_group(heat: Heat) -> dict[str, list[Row]]:
    """The rows of each group; one with one object and one stream is in many."""
    found: dict[str, list[Row]] = {name: [] for name in heat["groups"]}
    for row in heat["rows"]:
        found[row["group"]].append(row)
    return found


def once(heat: Heat) -> list[Row]:
    """The rows, each contestant's first only."""
    found: dict[str, Row] = {}
    for row in heat["rows"]:
        found.setdefault(label(row), row)
    return list(found.values())
