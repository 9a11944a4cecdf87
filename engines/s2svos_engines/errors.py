"""The one exception for mistakes that the user can mend."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """State in one sentence what is wrong and what to do next; shown without a traceback.

    Args:
        problem: what is wrong. Without a remedy it is the whole sentence.
        remedy: what to do about it, without a full stop.
    """

    exit_code = 2
    """Exit code of a command that ends with this error."""

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}." if self.remedy else self.problem


_NO_MEMORY = (
    *("bad_alloc", "bad allocation", "allocate memory", "insufficient memory"),
    *("start new thread", "failed to map segment"),
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is short, in whatever type its library has."""
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return True
    return any(words in str(error).lower() for words in _NO_MEMORY)


_REASON = 300  # characters of a library's error, which may be of many lines


@contextmanager
def graph_errors(graphs: str) -> Iterator[None]:
    """Turn a library's refusal of graphs, of whatever type, into a sentence.

    Args:
        graphs: what cannot be run, and by what: the beginning of the sentence.

    Raises:
        UserError: in place of the error, unless memory is short.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:_REASON]
        raise UserError(
            f"{graphs} ({reason})", "export the bundle again, or choose another --engine"
        ) from error
