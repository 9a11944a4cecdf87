"""Which code a training ran."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

import s2svos


def code_version() -> dict[str, str | None]:
    """Versions of the package and of PyTorch, and the commit where the package is a checkout."""
    package = Path(s2svos.__file__).parent
    commit = None
    if (package.parent / ".git").exists():
        command = ["git", "-C", str(package), "describe", "--always", "--dirty", "--abbrev=40"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
            commit = done.stdout.strip()
        except (OSError, subprocess.SubprocessError):
            commit = None
    return {"s2svos": s2svos.__version__, "commit": commit, "torch": str(torch.__version__)}
