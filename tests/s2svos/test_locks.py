"""Two runs that want the same folder."""

import errno
import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from s2svos import locks
from s2svos.locks import LOCK, locked_file, locked_folder
from s2svos_engines.errors import UserError

HOLD = """
import sys, time
from pathlib import Path
from s2svos.locks import locked_folder
with locked_folder(Path(sys.argv[1])):
    print("has it", flush=True)
    time.sleep(600)
"""


@pytest.fixture(params=["flock", "a file system without", "a system without"])
def ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With and without flock."""

    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    if request.param == "a file system without":
        monkeypatch.setattr(locks.fcntl, "flock", refuse)
    elif request.param == "a system without":
        monkeypatch.setattr(locks, "fcntl", None)
    return str(request.param)


@pytest.mark.usefixtures("ways")
def test_the_second_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    out = tmp_path / "a" / "b"
    with locked_folder(out):
        before = (out / LOCK).read_bytes()
        with (
            pytest.raises(UserError, match=f"process {os.getpid()} on ") as refused,
            locked_folder(out),
        ):
            pass
        assert socket.gethostname() in str(refused.value)
        assert (out / LOCK).read_bytes() == before
    assert not (tmp_path / "a").exists()
    with locked_folder(out):
        (out / "result").touch()
    assert [path.name for path in out.iterdir()] == ["result"]


@pytest.mark.usefixtures("ways")
def test_a_dead_owners_is_taken_over(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    owner = {"pid": ended.pid, "host": socket.gethostname(), "since": "2026-01-01 00:00:00"}
    (tmp_path / LOCK).write_text(json.dumps(owner))
    with locked_folder(tmp_path):
        assert json.loads((tmp_path / LOCK).read_bytes())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("junk", [b"", b"\xff\x00", b"[]", b'{"pid": "x"}', b'{"pid": 1e99}'])
@pytest.mark.usefixtures("ways")
def test_a_lock_that_is_junk_holds_nobody_for_ever(junk: bytes, tmp_path: Path) -> None:
    (tmp_path / LOCK).write_bytes(junk)
    os.utime(tmp_path / LOCK, (0, 0))
    with locked_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_a_run_on_another_machine_is_believed_where_there_is_no_flock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "fcntl", None)
    (tmp_path / LOCK).write_text('{"pid": 1, "host": "elsewhere", "since": "then"}')
    with (
        pytest.raises(UserError, match=r"on elsewhere, since then.*remove"),
        locked_folder(tmp_path),
    ):
        pass


def test_one_that_was_killed_leaves_its_folder_to_the_next(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout and process.stdout.readline()
        with pytest.raises(UserError, match=f"process {process.pid} on"), locked_folder(tmp_path):
            pass
        process.send_signal(signal.SIGKILL)
    assert (tmp_path / LOCK).exists()
    with locked_folder(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_processes_that_are_forked_hold_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    until, end = context.Pipe(duplex=False)
    with locked_folder(tmp_path):
        child = context.Process(target=until.poll, args=(None,))
        child.start()
    try:
        with locked_folder(tmp_path):
            assert child.is_alive()
    finally:
        end.send(None)
        child.join()


def test_no_link_is_followed(tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / LOCK).symlink_to(mine)
    with pytest.raises(UserError, match="cannot be written"), locked_folder(out):
        pass
    assert mine.read_text() == "mine"


def test_a_file_is_locked_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "net.s2s"
    with locked_file(path):
        with locked_file(tmp_path / "other.s2s"):
            pass
        with pytest.raises(UserError, match=r"net.s2s is in use"), locked_file(path):
            pass
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match="cannot be written"), locked_file(tmp_path / "no" / "x"):
        pass


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match="file is a file, no folder"), locked_folder(folder):
            pass
    assert (tmp_path / "file").read_text() == "mine"
