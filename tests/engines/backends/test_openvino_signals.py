"""Signals, which OpenVINO takes part in."""

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

SCRIPT = """
import signal
import numpy as np
import s2svos

heard = []
signal.signal(signal.SIGUSR1, lambda *_: heard.append("signal"))
frame, mask = np.zeros((64, 96, 3), np.uint8), np.zeros((64, 96), np.uint8)
mask[10:30, 10:40] = 1
first, second = (s2svos.load(engine="openvino") for _ in range(2))
for tracker in (first, second):
    tracker.open(frame, mask)
del tracker, first
del second
signal.raise_signal(signal.SIGUSR1)
print(*heard)
"""


def test_signals_are_survived_after_trackers_are_given_up() -> None:
    """Of several, in the order in which they came."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=600
    )
    assert (done.returncode, done.stdout) == (0, "signal\n"), done.stderr
