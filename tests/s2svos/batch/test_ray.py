"""A real Ray cluster of two nodes on this machine, of which one is killed in the middle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from video_files import write_video

import s2svos
from s2svos.batch.jobs import Job
from s2svos.batch.ray_cluster import run_on_ray
from s2svos.batch.work import Settings
from s2svos.video.masks import davis_palette, write_mask
from s2svos_engines.errors import UserError

ray = pytest.importorskip("ray")
FRAMES, VIDEOS = 40, 8


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    # What a node of this cluster imports is what the tests import.
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    started = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield started
    ray.shutdown()
    started.shutdown()


@pytest.fixture
def jobs(tmp_path: Path) -> list[Job]:
    mask = np.zeros((48, 64), np.uint8)
    mask[12:28, 4:20] = 1
    write_mask(tmp_path / "m.png", mask, davis_palette())
    write_video(tmp_path / "v.mp4", FRAMES)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    names = [f"v{index}" for index in range(VIDEOS)]
    whole = [Job(name, str(tmp_path / "v.mp4"), str(tmp_path / "m.png")) for name in names]
    return [*whole, Job("broken", str(tmp_path / "broken.mp4"), str(tmp_path / "m.png"))]


def settings(out: str) -> Settings:
    bundle = s2svos.default_bundle()
    return Settings(out, bundle, "auto", "fp32", "off", 1, False, (), False)


def test_a_node_that_is_killed_costs_no_video(
    cluster: Any, jobs: list[Job], tmp_path: Path
) -> None:
    node = cluster.add_node(num_cpus=1)
    outcomes = []
    killer = None
    for outcome in run_on_ray(
        jobs, settings(str(tmp_path / "out")), address=cluster.address, processes=2, threads=1
    ):
        outcomes.append(outcome)
        if len(outcomes) == 3:
            cluster.add_node(num_cpus=1)  # where the actor goes on
            killer = Thread(target=cluster.remove_node, args=(node, False))
            killer.start()
    assert killer
    killer.join()
    assert sorted(one.name for one in outcomes) == sorted(job.name for job in jobs)
    assert {one.name for one in outcomes if not one.well} == {"broken"}
    for job in jobs[:-1]:
        run = json.loads((tmp_path / "out" / job.name / "run.json").read_text())
        assert run["complete"] is True
        assert len(list((tmp_path / "out" / job.name / "masks").iterdir())) == FRAMES


def test_videos_and_results_at_addresses(cluster: Any, jobs: list[Job], tmp_path: Path) -> None:
    """``file://`` stands for the addresses that fsspec knows: all of them go the same way."""
    far = [
        Job(job.name, f"file://{job.video}", f"file://{job.mask}") for job in (jobs[0], jobs[-1])
    ]
    out = f"file://{tmp_path}/far"
    for state in ("done", "was done"):
        outcomes = {
            one.name: one
            for one in run_on_ray(
                far, settings(out), address=cluster.address, processes=1, threads=1
            )
        }
        assert outcomes["v0"].state == state, outcomes
        assert outcomes["broken"].state == "failed"
        assert len(list((tmp_path / "far" / "v0" / "masks").iterdir())) == FRAMES
    assert not (tmp_path / "far" / "broken").exists()


def test_a_cluster_that_is_not_there(jobs: list[Job], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no Ray cluster at"):
        list(
            run_on_ray(jobs, settings(str(tmp_path)), address="127.0.0.1:1", processes=1, threads=1)
        )
