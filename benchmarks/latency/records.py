"""Results as JSON lines: one bundle on one machine a line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from s2svos_engines.errors import UserError

BENCHMARK = "latency"

SuiteResult = dict[str, Any]
Row = dict[str, Any]


def append(path: Path, result: SuiteResult) -> None:
    """Append a result; ``path`` and its folder are made where missing.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(json.dumps(result) + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror})", "choose another") from error


def read(path: Path) -> list[SuiteResult]:
    """Read the results of a file; lines of other benchmarks are left out.

    Raises:
        UserError: missing, damaged, of an earlier form or without a result.
    """
    try:
        lines = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({error})", "name what run wrote") from error
    results = [line for line in lines if line.get("benchmark") == BENCHMARK]
    if not results:
        raise UserError(f"{path} holds no result of the latency suite", "name what run wrote")
    if not all("groups" in result for result in results):
        raise UserError(f"{path} is of an earlier form, without groups", "measure again")
    return results


def measured(path: Path) -> set[str]:
    """SHA-256 of the bundles that a file has results of."""
    return {result["bundle"] for result in read(path)} if path.exists() else set()


def label(row: Row) -> str:
    """Return a row's variant in words."""
    words = f"{row['contestant']} {row['precision']}, {row['objects']} object"
    words += "s" if row["objects"] > 1 else ""
    return words + (f", {row['streams']} streams" if row["streams"] > 1 else "")


def find(
    rows: Iterable[Row], variant: str, precision: str, objects: int = 1, streams: int = 1
) -> Row | None:
    """Return the row of a variant, the first of several; those of a group took turns."""
    wanted = (variant, precision, objects, streams)
    for row in rows:
        if (row["contestant"], row["precision"], row["objects"], row["streams"]) == wanted:
            return row
    return None


def by_group(result: SuiteResult) -> dict[str, list[Row]]:
    """Return the rows of each group; one with one object and one stream is in many."""
    found: dict[str, list[Row]] = {name: [] for name in result["groups"]}
    for row in result["rows"]:
        found[row["group"]].append(row)
    return found


def once(result: SuiteResult) -> list[Row]:
    """Return the rows, each variant's first only."""
    found: dict[str, Row] = {}
    for row in result["rows"]:
        found.setdefault(label(row), row)
    return list(found.values())
