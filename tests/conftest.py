"""What several tests need."""

from __future__ import annotations

import os
import signal
import tempfile
from pathlib import Path

import pytest

# The tests' networks are small: two threads would mostly wait for each other, which made 23 seconds
# of training 755 on a busy machine. Set before torch is imported, for what tests start as well.
os.environ.setdefault("OMP_NUM_THREADS", "1")

CLIPS = Path(__file__).resolve().parents[2] / "shared" / "clips"


SMALL_GRAPHS = "S2SVOS_SMALL_GRAPHS"  # where tests/support/small_graphs.py keeps them


def pytest_configure(config: pytest.Config) -> None:
    # Shells start jobs in the background deaf to Ctrl-C, which tests send.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if SMALL_GRAPHS not in os.environ:  # else this is a process that pytest-xdist started
        folder = tempfile.TemporaryDirectory(prefix="small-graphs-")
        os.environ[SMALL_GRAPHS] = folder.name
        config.add_cleanup(folder.cleanup)


@pytest.fixture
def clips() -> Path:
    """Folder of real videos with masks, which lies beside the checkout; not part of it."""
    if not CLIPS.is_dir():
        pytest.skip(f"the real clips are not here ({CLIPS})")
    return CLIPS
