"""What every benchmark script shares: where it ran, results as JSON lines, tables, mistakes."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from s2svos_engines.errors import UserError

if TYPE_CHECKING:
    from s2svos_engines.tracker import Tracker

_PACKAGES = ("s2svos", "numpy", "opencv-python-headless", "av", "onnxruntime", "openvino")


def environment() -> dict[str, Any]:
    """Time, processor, system, versions, and how busy the machine already is."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: found for name in _PACKAGES if (found := _version(name))},
    }


def describe(tracker: Tracker) -> dict[str, Any]:
    """Engine and weights of a tracker."""
    return {"engine": tracker.engine_name, "bundle": tracker.bundle.sha256}


def append_json(path: Path, benchmark: str, results: dict[str, Any]) -> None:
    """Append one line to ``path``: the benchmark's name, its results, the environment.

    Raises:
        UserError: the file cannot be written.
    """
    line = json.dumps({"benchmark": benchmark, **results, "environment": environment()})
    try:
        with path.open("a") as file:
            file.write(line + "\n")
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another.") from error


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of text on the terminal; the first column to the left, the rest to the right."""
    from rich.console import Console
    from rich.table import Table

    table = Table()
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(f"\n{title}", highlight=False, markup=False)
    console.print(table)


def run_script(command: Callable[..., None]) -> None:
    """Run ``command`` with the command line's arguments; mistakes end in one sentence."""
    import typer

    try:
        typer.run(command)
    except UserError as error:
        typer.secho(f"{Path(sys.argv[0]).name}: {error}", fg=typer.colors.RED, err=True)
        sys.exit(error.exit_code)


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
