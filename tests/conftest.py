"""What several tests need."""

from __future__ import annotations

from pathlib import Path

import pytest

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "clips"


@pytest.fixture
def clips() -> Path:
    """Folder of real videos with masks, which lies beside the checkout; not part of it."""
    if not CLIPS.is_dir():
        pytest.skip(f"the real clips are not here ({CLIPS})")
    return CLIPS
