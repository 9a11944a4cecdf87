"""OpenVINO itself, imported so that its usage statistics stay off unless the user wants them.

Imported as it is, OpenVINO counts its uses in the home folder and sends them away. A user agrees to
that with its own tool, ``opt_in_out --opt_in``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def _opted_in() -> bool:
    """Return whether the user has agreed to the statistics, by the file that the tool writes."""
    try:
        if sys.platform == "win32":
            folder = Path(os.path.expandvars("$LOCALAPPDATA")) / "Intel Corporation"
        else:
            folder = Path.home() / "intel"
        return (folder / "openvino_telemetry").read_text("utf-8").partition("\n")[0].strip() == "1"
    except (OSError, RuntimeError, ValueError):  # no file, no home folder, or no text
        return False


if not _opted_in():
    # Its import fails then, and OpenVINO has a stand-in for that, which does nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

import openvino as ov  # noqa: E402

# What a tensor's array needs is made when one is first asked for, and two threads that ask at the
# same time wait for each other without end (2026.4: one holds Python's lock and waits for a static
# variable, the other the reverse). Of 20 processes whose three threads began so 15 hung, with
# Python switching between them as often as it can.
ov.Tensor(ov.Type.u8, ov.Shape([1])).data  # noqa: B018

__all__ = ["ov"]
