"""Errors that say that memory is short."""

import errno

import pytest

from s2svos_engines.errors import is_out_of_memory


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (OSError(errno.ENOENT, "No such file"), False),
        (ValueError("no"), False),
    ],
)
def test_memory_that_is_short(error: Exception, short: bool) -> None:
    assert is_out_of_memory(error) == short
