"""Damaged data sets: what is wrong is named and counted, or ends the run; and batches."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from data_sets import davis_2017, drawn, write_frames, write_masks

from s2svos.data.config import DataConfig, DataKind, Phase
from s2svos.data.dataset import Batch, Mixture, batches, open_source
from s2svos_engines.errors import UserError

CLIP = drawn(8)
PHASE = Phase(3, 4, 2, 32, 64)


def cut(path: Path) -> None:
    """Half a file is left, as after a download that was stopped."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    return davis_2017(tmp_path / "DAVIS", {"a": CLIP, "b": CLIP})


@pytest.fixture
def damaged(davis: Path) -> Path:
    """A cut frame, a cut mask, a lost mask, and one of another size."""
    cut(davis / "JPEGImages" / "480p" / "a" / "00001.jpg")
    masks = davis / "Annotations" / "480p" / "a"
    cut(masks / "00002.png")
    (masks / "00003.png").unlink()
    write_masks(masks, {"00004": np.ones((9, 9), np.uint8)})
    return davis


def config(root: Path, memory: float = 2.0) -> DataConfig:
    return DataConfig(DataKind.DAVIS, str(root), "val", memory=memory)


def taken(source: Mixture, *, workers: int = 0, **more: int) -> list[Batch]:
    numbers = {"seed": 1, "first": 0, "count": 3, **more}
    return list(batches(source, PHASE, workers=workers, **numbers))


NAMES = {"00001.jpg", "00002.png", "00003.png", "00004.png"}


def test_what_is_held_in_memory_is_checked_when_it_is_opened(
    damaged: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="s2svos.data"):
        source = open_source([config(damaged)])
    assert {path.name for path in source.skipped.errors} == NAMES
    assert source.skipped_by_set() == {"davis2016": 4}
    assert source.facts()["skipped"] == {"davis2016": 4}
    assert source.facts()["data"][0]["frames"] == 12
    for name in NAMES:
        assert sum(f"/a/{name} " in message for message in caplog.messages) == 1
    taken(source)
    assert len(source.skipped.errors) == 4


@pytest.mark.parametrize("workers", [0, 2])
def test_what_is_read_late_is_skipped_and_counted_once(
    damaged: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str], workers: int
) -> None:
    source = open_source([config(damaged, memory=0)])
    with caplog.at_level(logging.WARNING, logger="s2svos.data"):
        made = taken(source, workers=workers, count=12)
    assert len(made) == 12
    assert {path.name for path in source.skipped.errors} == NAMES
    assert sum("00001.jpg" in message for message in caplog.messages) == 1
    assert "00001.jpg" not in capfd.readouterr().err  # the workers themselves say nothing


def test_skipped_files_do_not_make_clips_depend_on_the_past(damaged: Path) -> None:
    """A clip for which a file was passed over is the same in a run that began with it."""
    whole = taken(open_source([config(damaged, memory=0)]), count=6)
    rest = taken(open_source([config(damaged, memory=0)]), first=3 * 4, count=3)
    for a, b in zip(whole[3:], rest, strict=True):
        assert torch.equal(a[0], b[0])


@pytest.mark.parametrize("workers", [0, 1])
def test_strict_ends_the_run_with_one_sentence(damaged: Path, workers: int) -> None:
    with pytest.raises(UserError, match=r"00003\.png is missing"):
        open_source([config(damaged)], strict=True)
    write_masks(damaged / "Annotations" / "480p" / "a", {"00003": CLIP[3][1]})
    with pytest.raises(UserError, match=r"00001\.jpg"):
        open_source([config(damaged)], strict=True)
    late = open_source([config(damaged, memory=0)], strict=True)
    with pytest.raises(UserError) as error:
        taken(late, workers=workers, count=12)
    assert "Traceback" not in str(error.value)
    assert any(name in str(error.value) for name in NAMES)


def test_data_of_which_nothing_is_left(davis: Path) -> None:
    for path in davis.glob("JPEGImages/480p/*/*.jpg"):
        path.write_text("no picture")
    with pytest.raises(UserError, match="DAVIS"):
        open_source([config(davis)])
    with pytest.raises(UserError, match="Hardly any file"):
        taken(open_source([config(davis, memory=0)]))


def test_ids_that_are_not_listed_are_named_and_ignored(tmp_path: Path) -> None:
    train = tmp_path / "train"
    masks = {f"{t:05d}": ids.copy() for t, (_, ids) in enumerate(CLIP)}
    masks["00003"][:4, :4] = 77
    write_frames(train / "JPEGImages" / "v", [frame for frame, _ in CLIP])
    write_masks(train / "Annotations" / "v", masks)
    objects = {"1": {"frames": list(masks)}, "2": {"frames": list(masks)}}
    (train / "meta.json").write_text(json.dumps({"videos": {"v": {"objects": objects}}}))
    data = DataConfig(DataKind.YOUTUBE_VOS, str(tmp_path))
    for memory in (2.0, 0.0):
        source = open_source([replace(data, memory=memory)])
        taken(source)
        (error,) = source.skipped.errors.values()
        assert "00003.png holds ids that meta.json does not list (77)" in str(error)
        assert source.skipped_by_set() == {"youtube-vos": 1}
    assert source.facts()["data"][0]["frames"] == 8
    with pytest.raises(UserError, match="77"):
        open_source([data], strict=True)


def test_stills(tmp_path: Path) -> None:
    root = tmp_path / "stills"
    write_frames(root / "set", [frame for frame, _ in CLIP[:5]])
    masks = {f"{t:05d}": ids for t, (_, ids) in enumerate(CLIP[:5])}
    masks["00004"] = np.zeros_like(masks["00004"])
    masks["00004"][0, 0] = 5  # too small to be followed: no fault
    write_masks(root / "set", masks)
    cut(root / "set" / "00000.jpg")
    (root / "set" / "00001.jpg").unlink()
    data = DataConfig(DataKind.STILLS, str(root))
    source = open_source([data])
    assert source.facts()["data"][0]["stills"] == {"set": 2}
    assert source.skipped_by_set() == {"stills": 2}
    late = open_source([replace(data, memory=0)])
    made = taken(late)
    assert late.skipped_by_set() == {"stills": 2}
    assert not any(
        "set/00004" in name.split(" over ")[0] for batch in made for name in batch.sources
    )
    with pytest.raises(UserError, match=r"00000\.jpg"):
        open_source([data], strict=True)
    for path in root.glob("set/0000[23].png"):
        shutil.copy(root / "set" / "00004.png", path)
    with pytest.raises(UserError, match="no still with an object"):
        open_source([data])
    (root / "set" / "00000.png").unlink()
    (root / "set" / "00001.png").unlink()
    with pytest.raises(UserError, match="in a row"):
        taken(open_source([replace(data, memory=0)]))


def test_batches_go_on_where_they_stopped(davis: Path) -> None:
    source = open_source([config(davis), DataConfig(DataKind.SYNTHETIC)])
    whole = taken(source)
    rest = taken(source, first=4, count=2, workers=1)
    assert [len(whole), len(rest)] == [3, 2]
    frames, masks, owners, names = whole[0]
    assert owners.tolist() == [0, 1, 2, 3]
    assert frames.shape == (2, 4, 3, 32, 64)
    assert masks.shape == (2, 4, 1, 32, 64)
    assert frames.dtype == masks.dtype == torch.uint8
    assert len(names) == 4
    assert set(names) <= {"davis2016 a", "davis2016 b", "synthetic"}
    for a, b in zip(whole[1:], rest, strict=True):
        assert torch.equal(a[0], b[0])
        assert torch.equal(a[1], b[1])
        assert a.sources == b.sources
    assert not torch.equal(taken(source, seed=2)[0][0], whole[0][0])


def test_processes_share_the_joint_batch(davis: Path) -> None:
    source = open_source([config(davis)])
    joint = taken(source)
    parts = [taken(source, rank=rank, world=2) for rank in range(2)]
    for whole, left, right in zip(joint, *parts, strict=True):
        assert torch.equal(torch.cat([left[0], right[0]], 1), whole[0])
        assert torch.equal(torch.cat([left[1], right[1]], 1), whole[1])
        assert left.sources + right.sources == whole.sources
    with pytest.raises(UserError, match="a batch size that 3 divides"):
        taken(source, rank=0, world=3)
