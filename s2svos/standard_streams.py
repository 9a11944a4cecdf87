"""Standard streams that may be closed, full, or written in letters that lack some of a name."""

from __future__ import annotations

import os
import sys
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import TextIO

from s2svos_engines.errors import UserError

_OUTPUT, _ERROR = 1, 2  # their descriptors


def mend_standard_streams() -> None:
    """Let messages be written whatever the streams are.

    Letters that a stream's encoding lacks are escaped. A closed stream is replaced by one that
    takes everything and keeps nothing, so that no file is opened in its place, to which libraries
    would write their messages. What standard error does not take is lost without an error.
    """
    for _ in range(3):
        descriptor = os.open(os.devnull, os.O_RDWR)  # the lowest that is free
        if descriptor > _ERROR:
            os.close(descriptor)
            break
        os.set_inheritable(descriptor, True)
    sys.stdout = _mended(sys.stdout, _Output)
    sys.stderr = _mended(sys.stderr, _Error)


def _mended(stream: TextIO | None, kind: type[_Output | _Error]) -> TextIO:
    if isinstance(stream, TextIOWrapper) and stream.isatty():
        stream.reconfigure(errors="backslashreplace")
        return stream
    if stream is not None and not isinstance(stream, TextIOWrapper):
        return stream  # not the system's
    raw: FileIO = kind()
    line_by_line = raw.fileno() == _ERROR
    encoding = stream.encoding if stream else "utf-8"
    if stream:
        stream.flush()
    return TextIOWrapper(
        BufferedWriter(raw), encoding, "backslashreplace", line_buffering=line_by_line
    )


class _Output(FileIO):
    """Standard output, whose errors are sentences; but not that a reader has gone."""

    def __init__(self) -> None:
        super().__init__(_OUTPUT, "w", closefd=False)

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            # What is buffered would be tried, and fail, once more as Python ends.
            with FileIO(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), _OUTPUT)
            raise UserError(
                f"Standard output cannot be written ({error.strerror})", "send it elsewhere"
            ) from error


class _Error(FileIO):
    """Standard error, whose errors are of no consequence: there is nowhere to tell them."""

    def __init__(self) -> None:
        super().__init__(_ERROR, "w", closefd=False)

    def write(self, data: bytes, /) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def need_standard_output() -> None:
    """Refuse to go on where nothing that is printed would arrive.

    Raises:
        UserError: standard output is closed.
    """
    if sys.__stdout__ is None:
        raise UserError("Standard output is closed", "send it to a file or a program")
