"""The script that compares a short video with a long one."""

import json

import pytest
from typer.testing import CliRunner

from benchmarks import long_video


@pytest.mark.slow
def test_both_videos_are_followed_to_their_ends_and_the_ratios_are_theirs(tmp_path):
    import typer

    app = typer.Typer()
    app.command()(long_video.main)
    results = tmp_path / "results.jsonl"
    arguments = ["--frames", "10", "--times", "3", "--repeat", "1", "--json", str(results)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    line = json.loads(results.read_text())
    short, long = line["runs"]
    assert (short["frames"], long["frames"]) == (10, 30)
    assert line["ratios"]["seconds"] == pytest.approx(long["seconds"] / short["seconds"])
    assert short["peak_mib"] > 50
    assert len(line["bundle"]) == 64


def test_frames_go_to_and_fro_without_a_jump():
    frames = long_video._to_and_fro(["a", "b", "c"])
    assert "".join(next(frames) for _ in range(9)) == "abcbabcba"
