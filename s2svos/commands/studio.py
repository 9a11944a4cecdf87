"""The command ``s2svos studio``."""

from __future__ import annotations

import webbrowser
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
    video: Annotated[
        Path | None,
        typer.Argument(help="A video file or a folder of pictures.", show_default=False),
    ] = None,
    serve: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Instead send the page that s2svos export --web wrote there."
        ),
    ] = None,
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
    if (video is None) == (serve is None):
        raise typer.BadParameter("name a video, or a folder to --serve", param_hint="VIDEO")
    if serve:
        _serve(serve, host, port, no_browser=no_browser)
        return
    assert video
    import secrets

    from s2svos import UserError
    from s2svos.extras import needs

    with needs("studio"):
        from s2svos.studio.server import studio_app
    from s2svos.locks import locked_folder
    from s2svos.shipped import bundle_path
    from s2svos.studio.follower import Follower
    from s2svos.studio.frames import Frames
    from s2svos.studio.listener import Listener
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
            bundle_path(bundle), engine=engine, precision=precision.value, window="auto"
        )

    frames, token = Frames(opened), secrets.token_urlsafe(24)
    follower = Follower(work, frames, load)
    listener = Listener(host, port)
    app = studio_app(
        work,
        follower,
        frames,
        hosts=listener.names,
        token=token,
        stopping=lambda: listener.stopping,
    )
    typer.echo(
        f"{listener.address}?token={token}\n"
        f"Ctrl-C ends it; all that was painted is in {work.folder}."
    )
    with locked_folder(work.folder):
        if not no_browser:
            webbrowser.open(f"{listener.address}?token={token}")
        try:
            listener.run(app)
        finally:
            follower.stop()


def _serve(folder: Path, host: str, port: int, *, no_browser: bool) -> None:
    from s2svos import UserError
    from s2svos.extras import needs

    with needs("studio"):
        from s2svos.studio.static import static_app
    from s2svos.studio.listener import Listener

    if not (folder / "index.html").is_file():
        raise UserError(f"{folder} holds no page", "write one with s2svos export --web DIR")
    listener = Listener(host, port)
    typer.echo(f"{listener.address}\nCtrl-C ends it.")
    if not no_browser:
        webbrowser.open(listener.address)
    listener.run(static_app(folder, hosts=listener.names))
