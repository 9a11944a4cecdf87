"""Numbers that no run can do anything with are refused before anything is read or written."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from s2svos.cli import app

NO_NUMBERS = ("nan", "inf", "-inf", "1e300", "-1", "x", "²")
WHOLE = ("0x10", "1.5", "-1", str(2**31), str(10**30), "9" * 5000, "²", "nan")
SIZES = ("0x8", "8x0", "-8x8", "8", "8x8x8", "1000000x1000000", "9" * 5000 + "x8", "²x8", "8x٨")

INFER = "infer v.mp4 --mask m.png"
TRAIN = "train --out x --data synthetic"
OPTIONS = {
    f"{INFER} --timeout": (*NO_NUMBERS, "0"),
    "infer - --video-size 8x8 --mask m.png --fps": (*NO_NUMBERS, "0"),
    "infer --camera 0 --mask m.png --fps": NO_NUMBERS,
    f"{INFER} --threads": (*WHOLE, "0", "10000"),
    f"{INFER} --start": WHOLE,
    f"{INFER} --end": (*WHOLE, "0"),
    "infer --mask m.png --camera": (*WHOLE, "200"),
    "infer - --mask m.png --video-size": SIZES,
    "evaluate --davis x --jobs": (*WHOLE, "0", "100000"),
    "evaluate --davis x --threads": (*WHOLE, "0", "100000"),
    "evaluate --davis x --size": SIZES,
    "prepare x --out y --workers": (*WHOLE, "0", "100000"),
    "prepare x --out y --size": (*SIZES[:3], *SIZES[4:], "0", "99999", "²"),
    "export x.pt -o x.s2s --drift-frames": (*WHOLE, "0"),
    "export x.pt -o x.s2s --drift-budget": (*NO_NUMBERS, "2"),
    "export x.pt -o x.s2s --max-objects": (*WHOLE, "0", "256"),
    "export x.pt -o x.s2s --frames-per-call": (*WHOLE, "0", "65"),
    "export x.pt -o x.s2s --size": SIZES,
    f"{TRAIN} --steps": (*WHOLE, "0"),
    f"{TRAIN} --epochs": NO_NUMBERS,
    f"{TRAIN} --lr": NO_NUMBERS,
    f"{TRAIN} --batch-size": (*WHOLE, "0"),
    f"{TRAIN} --accumulate": (*WHOLE, "0"),
    f"{TRAIN} --devices": (*WHOLE, "0"),
    f"{TRAIN} --workers": WHOLE,
    f"{TRAIN} --seed": ("-1", "x", str(2**63), str(10**30)),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_numbers_out_of_range(option: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for value in OPTIONS[option]:
        run = CliRunner().invoke(app, [*option.split(), value], env={"COLUMNS": "200"})
        assert run.exit_code == 2, (value, run.output, run.exception)
        assert option.split()[-1] in run.output, (value, run.output)
    assert not list(tmp_path.iterdir())
