"""Says which extra brings a package that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from s2svos_engines.errors import UserError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turns a failed import into the command that installs what is missing.

    Raises:
        UserError: a package of the extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f'{error.name} is not installed; install it with pip install "s2svos[{extra}]".'
        ) from error
