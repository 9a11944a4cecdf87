"""The command ``s2svos studio``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from s2svos.commands.options import (
    BundleOption,
    EngineOption,
    GraphPrecision,
    PrecisionOption,
)

if TYPE_CHECKING:
    from s2svos_engines.tracker import Tracker

LOCAL = "127.0.0.1"


def studio(
    video: Annotated[Path, typer.Argument(help="A video file or a folder of pictures.")],
    project: Annotated[
        Path | None, typer.Option(help="Folder of the project; default: VIDEO.studio beside it.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Of the server; 0 for any that is free.")
    ] = 8765,
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's are exposed.")
    ] = LOCAL,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Print the address and open nothing.")
    ] = False,
    bundle: BundleOption = None,
    engine: EngineOption = "auto",
    precision: PrecisionOption = GraphPrecision.FP32,
) -> None:
    """Paint a first mask in the browser, follow it, correct it, keep it."""
    import secrets
    import socket
    import webbrowser

    from s2svos import UserError, default_bundle
    from s2svos.extras import needs

    with needs("studio"):
        import uvicorn

        from s2svos.studio.server import studio_app
    from s2svos.locks import locked_folder
    from s2svos.studio.follower import Follower
    from s2svos.studio.frames import Frames
    from s2svos.studio.project import Project, default_folder
    from s2svos.video.reader import Video
    from s2svos_engines.tracker import Tracker

    opened = Video(video)
    if opened.count is None:
        raise UserError(
            f"{video} does not say how many frames it has",
            "bring it into another container first: ffmpeg -i VIDEO -c copy NEW.mp4",
        )
    work = Project(opened, project or default_folder(video))

    def load() -> Tracker:
        return Tracker.load(
            bundle or default_bundle(), engine=engine, precision=precision.value, window="auto"
        )

    frames, token = Frames(opened), secrets.token_urlsafe(24)
    follower = Follower(work, frames, load)
    try:
        listening = socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"Port {port} of {host} cannot be listened on ({error.strerror})",
            "choose another --port, or 0 for any",
        ) from error
    number = listening.getsockname()[1]
    names = {LOCAL, "localhost", host}
    app = studio_app(
        work,
        follower,
        frames,
        hosts=frozenset(f"{name}:{number}" for name in names),
        token=token,
        stopping=lambda: server.should_exit,
    )
    address = f"http://{LOCAL if host == '0.0.0.0' else host}:{number}/?token={token}"
    typer.echo(f"{address}\nCtrl-C ends it; all that was painted is in {work.folder}.")
    server = uvicorn.Server(
        uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
    )
    with locked_folder(work.folder):
        if not no_browser:
            webbrowser.open(address)
        try:
            server.run(sockets=[listening])
        finally:
            follower.stop()
