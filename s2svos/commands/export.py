"""``s2svos export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from s2svos.commands.size import parse_size


def export(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint that s2svos train wrote.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Bundle to write, NAME.s2s.")],
    size: Annotated[
        str | None, typer.Option(help="Frame size HEIGHTxWIDTH; default: the checkpoint's.")
    ] = None,
) -> None:
    """Turn a checkpoint into a bundle of ONNX graphs, compared with PyTorch frame by frame."""
    from s2svos import UserError
    from s2svos.commands.extras import needs

    parsed = parse_size(size, example="256x448")
    if out.suffix != ".s2s":
        raise typer.BadParameter("a bundle's name ends in .s2s", param_hint="--out")
    with needs("train"):
        from s2svos.network.checkpoint import load_network, read_checkpoint
        from s2svos_export.export import export as export_network
    from s2svos.demo.render import render
    from s2svos.network.config import config_to_json

    network = load_network(checkpoint, size=parsed)
    if not out.parent.is_dir():
        raise UserError(f"The folder {out.parent} does not exist; create it or choose another -o.")
    facts = {
        "network": config_to_json(network.config),
        "training": read_checkpoint(checkpoint)["facts"],
    }
    parity = export_network(
        network,
        out,
        name=network.config.preset,
        clip=render(),
        facts=facts,
        say=lambda text: typer.echo(f"{text} ...", err=True),
    )
    typer.echo(
        f"{out}: {out.stat().st_size / 1e6:.1f} MB; mean IoU with PyTorch {parity.mean_iou:.5f} "
        f"over {parity.frames} frames, worst {parity.worst_iou:.5f} (frame {parity.worst_frame})."
    )
