"""The socket of the studio's servers, and the names by which it may be addressed."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn

from s2svos_engines.errors import UserError

_LOCAL, _EVERYWHERE = "127.0.0.1", "0.0.0.0"


class Listener:
    """Listens from the moment that it is made, and runs an application.

    Args:
        host: address to listen on.
        port: 0 for any that is free.

    Attributes:
        names: ``name:port`` with which it may be addressed.
        address: of its first page.

    Raises:
        UserError: the port cannot be listened on.
    """

    def __init__(self, host: str, port: int) -> None:
        try:
            self._socket = socket.create_server((host, port))
        except OSError as error:
            raise UserError(
                f"Port {port} of {host} cannot be listened on ({error.strerror})",
                "choose another --port, or 0 for any",
            ) from error
        number = self._socket.getsockname()[1]
        self.names = frozenset(f"{name}:{number}" for name in (_LOCAL, "localhost", host))
        self.address = f"http://{_LOCAL if host == _EVERYWHERE else host}:{number}/"
        self._server: uvicorn.Server | None = None

    @property
    def stopping(self) -> bool:
        """Whether the server is about to end."""
        return self._server is not None and self._server.should_exit

    def run(self, app: Any) -> None:
        """Run an ASGI application until it is stopped."""
        config = uvicorn.Config(
            app, log_level="warning", access_log=False, timeout_graceful_shutdown=1
        )
        self._server = uvicorn.Server(config)
        self._server.run(sockets=[self._socket])
