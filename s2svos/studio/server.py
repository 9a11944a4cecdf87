"""The server behind the page: one video, one project, one user.

It listens on 127.0.0.1 unless told otherwise. A page of another site can neither read from it nor
make it do anything: every request needs the cookie that the address's token was changed for
(``SameSite=Strict``), the host has to be the server's own (a name that was bound anew to this
machine is not), and a request that says where it comes from has to come from the page.
"""

from __future__ import annotations

import asyncio
import io
import json
import secrets
import shutil
import tempfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.requests import Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from s2svos.studio.follower import Follower, Stretch, plan
from s2svos.studio.frames import Frames
from s2svos.studio.project import Project
from s2svos_engines.arrays import Labels
from s2svos_engines.errors import UserError

COOKIE = "s2svos-studio"
PAGE = Path(__file__).parent / "page"
KINDS = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}
SENT_AFTER = 0.1  # seconds between two messages on progress
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Next = Callable[[Request], Awaitable[Response]]


class Guard(BaseHTTPMiddleware):
    """Lets nobody but the page in.

    Args:
        app: behind it.
        hosts: names with which the server may be addressed, with its port.
        token: of the address.
    """

    def __init__(self, app: Any, *, hosts: frozenset[str], token: str) -> None:
        super().__init__(app)
        self._hosts, self._token = hosts, token

    async def dispatch(self, request: Request, call_next: Next) -> Response:
        """Answer a request, or refuse it."""
        response = self._refusal(request) or await call_next(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cache-Control"] = "no-store"
        return response

    def _refusal(self, request: Request) -> Response | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if host not in self._hosts:
            return PlainTextResponse("This server has another name.", 421)
        if origin is not None and origin.partition("://")[2] != host:
            return PlainTextResponse("Other sites may not ask this server.", 403)
        if request.url.path == "/" and "token" in request.query_params:
            if not secrets.compare_digest(request.query_params["token"], self._token):
                return PlainTextResponse("The token is wrong.", 403)
            response = RedirectResponse("/", 303)
            response.set_cookie(COOKIE, self._token, httponly=True, samesite="strict")
            return response
        if not secrets.compare_digest(request.cookies.get(COOKIE, ""), self._token):
            return PlainTextResponse("Open the address that s2svos studio has printed.", 403)
        return None


def studio_app(
    project: Project,
    follower: Follower,
    frames: Frames,
    *,
    hosts: frozenset[str],
    token: str,
    stopping: Callable[[], bool] = lambda: False,
) -> Starlette:
    """Return the application.

    Args:
        project: that is worked on.
        follower: follows its frames.
        frames: of its video.
        hosts: ``name:port`` with which the server may be addressed.
        token: that lets the page in.
        stopping: whether the server is about to end, so that no answer may go on.
    """
    studio = _Studio(project, follower, frames, stopping)
    routes = [
        Route("/", studio.page),
        Route("/page/{name}", studio.page),
        Route("/api/project", studio.project),
        Route("/api/frames/{index:int}", studio.frame),
        Route("/api/masks/{index:int}", studio.mask, methods=["GET"]),
        Route("/api/masks/{index:int}", studio.paint, methods=["PUT"]),
        Route("/api/export/{name}", studio.export),
        Route("/api/snap/{index:int}", studio.snap, methods=["POST"]),
        Route("/api/objects/{one:int}", studio.name, methods=["PUT"]),
        Route("/api/objects/{one:int}", studio.remove, methods=["DELETE"]),
        Route("/api/follow", studio.follow, methods=["POST"]),
        Route("/api/stop", studio.stop, methods=["POST"]),
        Route("/api/progress", studio.progress),
    ]
    app = Starlette(routes=routes, exception_handlers={UserError: _mistake})
    app.add_middleware(Guard, hosts=hosts, token=token)
    return app


async def _mistake(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 400)


class _Studio:
    """The answers to the page; work that takes long is done in threads."""

    def __init__(
        self,
        project: Project,
        follower: Follower,
        frames: Frames,
        stopping: Callable[[], bool],
    ) -> None:
        self._project, self._follower, self._frames = project, follower, frames
        self._stopping = stopping

    async def page(self, request: Request) -> Response:
        name = request.path_params.get("name", "index.html")
        path = PAGE / name
        if path.parent != PAGE or path.suffix not in KINDS or not path.is_file():
            return PlainTextResponse("There is no such file.", 404)
        return FileResponse(path, media_type=KINDS[path.suffix])

    async def project(self, request: Request) -> Response:
        facts = await asyncio.to_thread(self._project.facts)
        return JSONResponse({**facts, "progress": self._follower.progress.to_json()})

    async def frame(self, request: Request) -> Response:
        """Send a frame as JPEG, no higher than ``?height``."""
        height = _number(request.query_params, "height", 16, 8192, self._project.video.height)

        def draw() -> bytes:
            frame = self._frames[request.path_params["index"]]
            if height < frame.shape[0]:
                width = round(frame.shape[1] * height / frame.shape[0])
                frame = np.asarray(
                    cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA), np.uint8
                )
            data = io.BytesIO()
            Image.fromarray(frame).save(data, "JPEG", quality=90)
            return data.getvalue()

        return Response(await asyncio.to_thread(draw), media_type="image/jpeg")

    async def mask(self, request: Request) -> Response:
        """Send a frame's ids, a byte each, compressed as zlib does; 204 if there are none."""
        labels = await asyncio.to_thread(self._project.mask, request.path_params["index"])
        return Response(status_code=204) if labels is None else _packed(labels)

    async def export(self, request: Request) -> Response:
        """Send all masks as one of the project's ``EXPORTS``."""
        name = request.path_params["name"]
        folder = Path(tempfile.mkdtemp(prefix="s2svos-"))
        try:
            await asyncio.to_thread(self._project.export, name, folder)
        except BaseException:
            shutil.rmtree(folder)
            raise
        return FileResponse(
            folder / name,
            filename=f"{self._project.video.path.stem}-{name}",
            background=BackgroundTask(shutil.rmtree, folder),
        )

    async def paint(self, request: Request) -> Response:
        labels = await self._labels(request)
        await asyncio.to_thread(self._project.give, request.path_params["index"], labels)
        return JSONResponse({"objects": self._project.facts()["objects"]})

    async def snap(self, request: Request) -> Response:
        """Send the ids that the network makes of those that came; nothing is kept."""
        labels, index = await self._labels(request), request.path_params["index"]

        def work() -> Labels:
            return self._follower.tracker.snap(self._frames[index], labels)

        return _packed(await asyncio.to_thread(work) if labels.any() else labels)

    async def name(self, request: Request) -> Response:
        facts = await _json(request)
        name = str(facts.get("name", ""))
        await asyncio.to_thread(self._project.name, request.path_params["one"], name)
        return await self.project(request)

    async def remove(self, request: Request) -> Response:
        await asyncio.to_thread(self._project.remove, request.path_params["one"])
        return await self.project(request)

    async def follow(self, request: Request) -> Response:
        """Take ``{"start": a, "last": b}``, or ``{}`` for all from the nearest painted ones."""
        facts, count = await _json(request), await asyncio.to_thread(self._count)
        if "start" in facts:
            stretches = [
                Stretch(_number(facts, "start", 0, count - 1), _number(facts, "last", 0, count - 1))
            ]
            stretches = [one for one in stretches if len(one)]
        else:
            stretches = plan(self._project.given, count)
        await asyncio.to_thread(self._follower.start, stretches)
        return JSONResponse(self._follower.progress.to_json())

    async def stop(self, request: Request) -> Response:
        await asyncio.to_thread(self._follower.stop)
        return JSONResponse(self._follower.progress.to_json())

    async def progress(self, request: Request) -> Response:
        """Send progress as server-sent events, as long as the page listens."""

        async def events() -> AsyncIterator[str]:
            last = None
            while not self._stopping() and not await request.is_disconnected():
                if (now := self._follower.progress) != last:
                    last = now
                    sure = self._project.confidence.get(now.frame, {})
                    yield f"data: {json.dumps({**now.to_json(), 'confidence': sure})}\n\n"
                await asyncio.sleep(SENT_AFTER)

        return StreamingResponse(events(), media_type="text/event-stream")

    def _count(self) -> int:
        return self._project.video.count or 0

    async def _labels(self, request: Request) -> Labels:
        """Return the ids that a request carries, uint8 [H, W].

        Raises:
            UserError: it carries none, or for another size.
        """
        video = self._project.video
        size = video.width * video.height
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > 2 * size + 1024:
                raise UserError("The mask is too large.")
        try:
            data = zlib.decompressobj().decompress(bytes(body), size + 1)
        except zlib.error as error:
            raise UserError("The mask is not compressed as zlib does.") from error
        if len(data) != size:
            raise UserError("The mask has another size than the video.")
        return np.frombuffer(data, np.uint8).reshape(video.height, video.width)


def _packed(labels: Labels) -> Response:
    data = zlib.compress(np.ascontiguousarray(labels).tobytes(), 1)
    return Response(data, media_type="application/octet-stream")


async def _json(request: Request) -> dict[str, Any]:
    try:
        facts = json.loads(await request.body() or b"{}")
    except ValueError as error:
        raise UserError("The request is no JSON.") from error
    if not isinstance(facts, dict):
        raise UserError("The request is no JSON object.")
    return facts


def _number(
    facts: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None
) -> int:
    try:
        value = int(facts.get(name, default))
    except (TypeError, ValueError) as error:
        raise UserError(f"{name} is no number.") from error
    if not low <= value <= high:
        raise UserError(f"{name} is {value}, which is not from {low} to {high}.")
    return value
