"""The server of a page that needs none: static files, with the headers that threads need."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from s2svos.studio.server import Next

# With these a browser lets the page's threads share memory (https://web.dev/articles/coop-coep).
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "X-Content-Type-Options": "nosniff",
}


class _Isolated(BaseHTTPMiddleware):
    def __init__(self, app: Any, *, hosts: frozenset[str]) -> None:
        super().__init__(app)
        self._hosts = hosts

    async def dispatch(self, request: Request, call_next: Next) -> Response:
        if request.headers.get("host", "") not in self._hosts:
            return PlainTextResponse("This server has another name.", 421)
        response = await call_next(request)
        response.headers.update(ISOLATION)
        return response


def static_app(folder: Path, *, hosts: frozenset[str]) -> Starlette:
    """Return an application that sends the files of a folder that ``export --web`` wrote.

    Args:
        folder: with ``index.html``.
        hosts: ``name:port`` with which the server may be addressed.
    """
    mimetypes.add_type("text/javascript", ".mjs")  # Windows' registry may say otherwise
    mimetypes.add_type("text/javascript", ".js")
    mimetypes.add_type("application/wasm", ".wasm")
    app = Starlette(routes=[Mount("/", StaticFiles(directory=folder, html=True))])
    app.add_middleware(_Isolated, hosts=hosts)
    return app
