"""What several tests need."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

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
