"""The optional packages, which the extras of the distribution install."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from s2svos_engines.errors import UserError


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Turn a failed import into the command that installs what is missing.

    Raises:
        UserError: a package of the extra is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(
            f"{error.name} is not installed", f'install it with pip install "s2svos[{extra}]"'
        ) from error
