"""Mean, recall and decay against cases worked out by hand from DAVIS's definition."""

from __future__ import annotations

import math

import pytest

from s2svos.evaluation.scores import ObjectScore, Overall, Statistics, VideoScore


def of_object(number: int, *j: float) -> ObjectScore:
    stems = tuple(f"{i:05d}" for i in range(1, len(j) + 1))
    return ObjectScore(number, "00000", stems, j, tuple(value / 2 for value in j))


def of_video(name: str, *objects: ObjectScore) -> VideoScore:
    return VideoScore(name, (48, 64), frames=10, steps=9, seconds=0.18, objects=objects)


@pytest.mark.parametrize(
    ("values", "decay"),
    [
        ([0.7], 0),
        ([0.9, 0.2], 0.9 - 0.2),
        ([0.9, 0.6, 0.1], (0.9 + 0.6) / 2 - 0.1),  # limits 1 1.5 2 2.5 3 are rounded upwards
        ([0.9, 0.8, 0.5, 0.4, 0.1], (0.9 + 0.8) / 2 - (0.4 + 0.1) / 2),  # limits 1 2 3 4 5
        ([1, 0.9, 0.8, 0.5, 0.5, 0.3, 0.2, 0.1], 0.9 - 0.2),  # limits 1 3 5 6 8
        ([1, 1, 1, 0.6, 0, 0, 0, 0, 0.5, 0, 0], 3.6 / 4 - 0.5 / 3),  # limits 1 4 6 9 11
        ([*[0.8] * 21, *[0] * 38, *[0.3] * 21], 0.5),  # 80 frames: limits 1 21 41 60 80
        ([*[0.8] * 76, *[0.1] * 148, *[0.3] * 76], 0.5),  # 300 frames: 1 76 151 225 300
    ],
)
def test_decay(values: list[float], decay: float) -> None:
    assert Statistics.of(values).decay == pytest.approx(decay)


def test_mean_and_recall() -> None:
    found = Statistics.of([0.5, 0.51, 1.0, 0.0])
    assert found.mean == pytest.approx(0.5025)
    assert found.recall == 0.5, "one half is not above one half"


def test_a_nan_is_no_part_of_a_mean_and_a_miss() -> None:
    found = Statistics.of([0.9, math.nan, 0.6, 0.6, math.nan])
    assert found.mean == pytest.approx(0.7)
    assert found.recall == pytest.approx(3 / 5)
    assert found.decay == pytest.approx(0.9 - 0.6)


def test_nothing_scored_is_nan() -> None:
    found = Statistics.of([])
    assert math.isnan(found.mean) and math.isnan(found.recall) and math.isnan(found.decay)
    assert math.isnan(Statistics.mean_of([found]).mean)
    assert not of_video("x", of_object(1)).scored


def test_every_object_weighs_the_same() -> None:
    crowd = of_video("crowd", of_object(1, 0.2, 0.2), of_object(2, 0.4, 0.4), of_object(3))
    alone = of_video("alone", of_object(1, 0.9, 0.7))
    assert crowd.j.mean == pytest.approx(0.3), "the third was never scored"
    assert alone.j.mean == pytest.approx(0.8)
    overall = Overall.of([crowd, alone])
    assert overall.j.mean == pytest.approx((0.2 + 0.4 + 0.8) / 3)
    assert overall.f.mean == pytest.approx((0.1 + 0.2 + 0.4) / 3)
    assert overall.j_and_f == pytest.approx((overall.j.mean + overall.f.mean) / 2)
    assert overall.j.recall == pytest.approx(1 / 3)
    assert overall.j.decay == pytest.approx(0.2 / 3)
    assert (overall.videos, overall.objects, overall.frames) == (2, 3, 20)
    assert overall.milliseconds == pytest.approx(20)


def test_json_and_back() -> None:
    score = of_video("x", of_object(1, 0.1, 1 / 3), of_object(2))
    assert VideoScore.from_json(score.to_json()) == score
