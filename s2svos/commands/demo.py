"""``s2svos demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2svos.commands.options import BundleOption, EngineOption


def demo(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clip and results.")] = Path(
        "demo"
    ),
    bundle: BundleOption = None,
    engine: EngineOption = "auto",
) -> None:
    """Draw a clip, follow its three objects with s2svos infer, and compare with the truth."""
    from s2svos.commands.demo_run import follow, judge, palette, write_clip
    from s2svos.video.contact_sheet import contact_sheet

    typer.echo(f"Drawing two koi and a turtle in a pond: {out / 'clip.mp4'}")
    clip = write_clip(out)
    labels = follow(out, clip, bundle=bundle, engine=engine)
    sheet = out / "contact_sheet.png"
    painted = [(frame, ids) for (frame, _), ids in zip(clip, labels, strict=True)]
    contact_sheet(painted, sheet, palette=palette())

    typer.echo(f"\n{'object':<10} mean IoU with the true masks, frames 1 to {len(clip) - 1}")
    for name, score in judge(clip, labels).items():
        typer.echo(f"{name:<10} {score:.3f}")
    typer.echo(f"\nLook at {sheet} and at {out / 'result' / 'overlay.mp4'}.")
    typer.echo("Your own video:\n  s2svos infer YOUR_VIDEO.mp4 --mask FIRST_FRAME_MASK.png")
