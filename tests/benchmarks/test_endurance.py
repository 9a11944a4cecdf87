"""Many frames and many streams take no more memory and no more files than few."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from small_bundle import small_bundle

from benchmarks.endurance import Growth, over_frames, over_streams
from s2svos_engines.tracker import Tracker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def check(growth: Growth) -> None:
    assert growth.files == 0
    assert growth.mib < 4, growth.samples


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_memory_and_files_stay_the_same(engine: str, tmp_path: Path) -> None:
    tracker = Tracker.load(small_bundle(tmp_path).path, engine=engine, threads=1)
    check(over_frames(tracker, 3_000))
    check(over_streams(tracker, 400))
