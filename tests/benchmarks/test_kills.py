"""A command that is killed loses nothing; ``python -m benchmarks.kills`` tries more moments."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import kills

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs signals and limits")


def test_nothing_is_lost(tmp_path: Path) -> None:
    kills.main(tries=1, only="prepare", json=tmp_path / "x.jsonl")
    tallies = json.loads((tmp_path / "x.jsonl").read_text())["tallies"]
    assert [one["way"] for one in tallies] == list(kills.WAYS)
    assert all(one["tried"] == one["well"] == 1 and one["lost"] == 0 for one in tallies)


def test_what_is_lost_is_seen(tmp_path: Path) -> None:
    command = kills.Command("info", ("info",), lambda out: {"masks": "these"})
    tally = kills.Tally("info", "SIGKILL")
    kills._try(command, tally, 0.0, 0, {"masks": "others"}, str(tmp_path))
    assert (tally.tried, tally.well, tally.lost) == (1, 0, 1)
