"""Standard streams that are closed, full or in another encoding, and a folder that is gone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

S2SVOS = f"{sys.executable} -m s2svos"


def shell(line: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line.replace("s2svos", S2SVOS, 1)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("s2svos info >&-", "Standard output is closed"),
        ("s2svos info >/dev/full", "Standard output cannot be written"),
        ("s2svos --help >/dev/full", "Standard output cannot be written"),
        ("s2svos infer - --video-size 8x8 --mask m.png <&-", "Standard input is closed"),
        ("s2svos infer - --video-size 8x8 --mask m.png 0>/dev/null", "cannot be read"),
        ("s2svos infer --no-such 2>/dev/full", ""),
        ("s2svos infer --no-such 2>&-", ""),
        ("s2svos infer --no-such <&- >&- 2>&-", ""),
    ],
)
def test_streams_end_in_a_sentence(line: str, sentence: str, tmp_path: Path) -> None:
    done = shell(line, tmp_path)
    assert done.returncode == 2, done.stderr
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr and "ignored" not in done.stderr
    assert len(done.stderr.splitlines()) == bool(sentence)


def test_standard_error_is_not_needed(tmp_path: Path) -> None:
    for closed in ("2>&-", "2>/dev/full"):
        done = shell(f"s2svos info {closed}", tmp_path)
        assert done.returncode == 0
        assert "SHA-256" in done.stdout


def test_files_are_not_opened_in_place_of_closed_streams(tmp_path: Path) -> None:
    script = (
        "from s2svos.standard_streams import mend_standard_streams; mend_standard_streams();"
        "print(open('opened', 'w').fileno() > 2, file=open('result', 'w'))"
    )
    (tmp_path / "script.py").write_text(script)
    subprocess.run(
        ["sh", "-c", f"{sys.executable} script.py <&- >&- 2>&-"], cwd=tmp_path, check=True
    )
    assert (tmp_path / "result").read_text() == "True\n"


@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
@pytest.mark.parametrize("name", ["käfer中.s2s", os.fsdecode(b"caf\xe9.s2s")])
def test_names_are_told_in_any_encoding(encoding: str, name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "s2svos", "info", name]
    for extra in ({"PYTHONIOENCODING": encoding}, {"LC_ALL": "C", "PYTHONUTF8": "0"}):
        done = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, **extra}, capture_output=True, timeout=600
        )
        assert done.returncode == 2
        assert b"Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_the_current_folder_may_be_gone(tmp_path: Path) -> None:
    done = shell(
        "mkdir gone; cd gone; rmdir ../gone; s2svos train --data synthetic --out x", tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.endswith("s2svos: The current folder is gone; change to another one.\n")
