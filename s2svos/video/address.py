"""Addresses of streams: what is one, and how it is told without what only its sender should know.

They are read without :mod:`urllib`, which refuses some that FFmpeg opens, as those with a bracket
in the password, and tells them in its errors.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.%]+\]|[^:@\[\]]*)(:[0-9]*)?")
HIDDEN = "***"


def is_address(text: str) -> bool:
    """Return whether it is the address of a stream and no path."""
    return _SCHEME.match(text) is not None


def address_name(address: str) -> str:
    """Return a stream's name in messages and files: its address without what may be secret.

    That are the credentials, the values of a query or of a path that has some, and the fragment.
    """
    scheme, host, path, query = _parts(address)
    path = re.sub(r"=[^&;/]+", f"={HIDDEN}", path)
    fields = re.split("([&;])", query)
    shown = "".join(one if one in "&;" else _without_value(one) for one in fields)
    return f"{scheme}{host}{path}" + (f"?{shown}" if query else "")


def stem(address: str) -> str:
    """Return a name for a folder: that of what is asked for, or of the host."""
    _, host, path, _ = _parts(address)
    name = PurePosixPath(path).stem
    if name in ("", ".", "..") or "=" in name:
        name = re.sub(r":[0-9]*$", "", host).strip("[]")
    return name if name not in ("", ".", "..", HIDDEN) else "stream"


def _parts(address: str) -> tuple[str, str, str, str]:
    """Return scheme, host and port, path, and query; the fragment belongs to none."""
    scheme, _, rest = address.partition("://")
    host = re.split("[/?#]", rest, maxsplit=1)[0]
    if not _HOST.fullmatch(host):
        # Credentials, in which any letter may come; an address in a query is no part of them.
        end = re.split("[?#]", rest, maxsplit=1)[0] if "@" in host else rest
        rest = rest[end.rfind("@") + 1 :]
        host = re.split("[/?#]", rest, maxsplit=1)[0]
    path, _, query = rest[len(host) :].partition("#")[0].partition("?")
    return f"{scheme}://", host if _HOST.fullmatch(host) else HIDDEN, path, query


def _without_value(field: str) -> str:
    key, equals, _ = field.partition("=")
    return f"{key}={HIDDEN}" if equals else HIDDEN if field else ""
