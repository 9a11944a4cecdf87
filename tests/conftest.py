"""What several tests need."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

# The tests' networks are small: two threads would mostly wait for each other, which made 23 seconds
# of training 755 on a busy machine. Set before torch is imported, for what tests start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "clips"


def pytest_configure() -> None:
    """Shells start jobs in the background deaf to Ctrl-C, which tests send."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def clips() -> Path:
    """Folder of real videos with masks, which lies beside the checkout; not part of it."""
    if not CLIPS.is_dir():
        pytest.skip(f"the real clips are not here ({CLIPS})")
    return CLIPS
