"""What several tests need."""

from __future__ import annotations

import os
import random
import signal
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ROOT.parent / "shared" / "clips"
SMALL_GRAPHS = "S2SVOS_SMALL_GRAPHS"  # where tests/support/small_graphs.py keeps them

# The tests' networks are small: two threads would mostly wait for each other, which made 23 seconds
# of training 755 on a busy machine. Set before torch is imported, for what tests start as well; and
# whatever the caller has, since another number of threads sums in another order.
os.environ["OMP_NUM_THREADS"] = "1"

# What a test compiles, it compiles; tests/engines/backends/test_openvino_cache.py has a cache.
os.environ["S2SVOS_CACHE"] = "off"

# What tests start in folders of their own finds the same packages as the tests themselves.
PLACES = [str(ROOT), str(ROOT / "export"), str(ROOT / "engines")]
os.environ["PYTHONPATH"] = os.pathsep.join(
    dict.fromkeys([*PLACES, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))])
)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--shuffle-files",
        type=int,
        metavar="SEED",
        help="run the files of tests in a random order, the one of this seed",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = config.getoption("--shuffle-files")
    if seed is not None:
        files = sorted({item.path for item in items})
        random.Random(seed).shuffle(files)
        items.sort(key=lambda item: files.index(item.path))


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
