"""Ctrl-C and what else ends a run."""

import os
import signal
import subprocess
import sys

import pytest

from s2svos import interrupt
from s2svos.interrupt import STOP_SIGNALS, Interrupt


@pytest.fixture(autouse=True)
def no_echo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "ECHO", -1.0)


def test_the_first_is_a_wish_and_the_second_is_not() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Interrupt() as wish:
        assert not wish.wanted
        os.kill(os.getpid(), signal.SIGTERM)
        assert wish.number == signal.SIGTERM
        os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_the_first_may_be_raised(number: int) -> None:
    with pytest.raises(KeyboardInterrupt), Interrupt(raises=True) as outer:
        signal.raise_signal(number)
    assert outer.number == number


def test_the_innermost_decides_and_all_know() -> None:
    with Interrupt(raises=True) as outer:
        with Interrupt() as inner:
            signal.raise_signal(signal.SIGTERM)
        assert outer.number == inner.number == signal.SIGTERM


def test_one_that_comes_twice_within_a_moment_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupt, "ECHO", 1e9)
    with Interrupt() as wish:
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
    assert wish.wanted


def test_what_is_ignored_stays_so() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupt(raises=True) as outer:
            signal.raise_signal(signal.SIGHUP)
        assert not outer.wanted
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


SCRIPT = """
import signal
from s2svos import interrupt

interrupt.ECHO = -1.0
with interrupt.Interrupt(raises=True):
    try:
        signal.raise_signal({first})
    except KeyboardInterrupt:
        signal.raise_signal({second})
        print("goes on")
"""


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_second_ends_the_command_at_once(first: int, second: int) -> None:
    script = SCRIPT.format(first=int(first), second=int(second))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=600)
    assert (done.returncode, done.stdout) == (-second, b"")
