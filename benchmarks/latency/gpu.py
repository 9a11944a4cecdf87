"""Clocks, throttling and memory of the GPU, as nvidia-smi tells them."""

from __future__ import annotations

import shutil
import subprocess

FIELDS = (
    *("name", "driver_version", "memory.used", "clocks.sm", "clocks.mem", "temperature.gpu"),
    *("power.draw", "clocks_event_reasons.active"),
)


def gpu_state() -> dict[str, str] | None:
    """nvidia-smi's words on the first GPU; None where there is none or it cannot be asked."""
    program = shutil.which("nvidia-smi")
    if not program:
        return None
    command = [program, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits", "-i0"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    values = [value.strip() for value in done.stdout.strip().split(",")]
    return dict(zip(FIELDS, values, strict=True)) if len(values) == len(FIELDS) else None
