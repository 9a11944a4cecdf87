"""``s2svos train``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

    from s2svos.network.lite import Lite
    from s2svos.network.paper import Paper


class Preset(StrEnum):
    """The networks."""

    LITE = "lite"
    PAPER = "paper"


def train(
    davis: Annotated[Path, typer.Option(help="DAVIS 2016, in its standard folders.")],
    out: Annotated[Path, typer.Option(help="Folder for checkpoints and curves.")],
    stills: Annotated[
        Path | None, typer.Option(help="Pictures <set>/<name>.jpg with masks <name>.png.")
    ] = None,
    network: Annotated[Preset, typer.Option(help="Which network.")] = Preset.LITE,
    backbone_weights: Annotated[
        str,
        typer.Option(
            help="ImageNet weights: a MobileNet V1 state dict for lite; 'imagenet' lets "
            "torchvision download VGG-16's for paper; 'none' trains from scratch."
        ),
    ] = "none",
    split: Annotated[str, typer.Option(help="ImageSets/2016/<split>.txt to train on.")] = "train",
    steps: Annotated[
        int | None, typer.Option(min=1, help="Steps in all; the phases share them as by default.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights and clips.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Processes that make clips.")] = 1,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUT/last.pt.")] = False,
) -> None:
    """Train a network on DAVIS and stills."""
    from s2svos.commands.extras import needs

    with needs("train"):
        from s2svos.training.trainer import Trainer
    from s2svos.commands.progress import training_progress
    from s2svos.data.clips import ClipSource, Mixture, MovingStills, RealClips
    from s2svos.data.sources import davis_sequences
    from s2svos.data.sources import stills as read_stills
    from s2svos.network.config import PRESETS
    from s2svos.training.config import default_config
    from s2svos.training.curves import draw_curves

    config = default_config(network.value, steps=steps, seed=seed)
    prepare = _backbone(network, backbone_weights)
    sequences = davis_sequences(davis, split)
    sources: list[tuple[ClipSource, float]] = [(RealClips(sequences), config.real)]
    facts: dict[str, Any] = {"davis": [sequence.name for sequence in sequences]}
    if stills:
        pictures = read_stills(stills)
        sources.append((MovingStills(pictures), 1 - config.real))
        facts["stills"] = len(pictures)
    trainer = Trainer(
        network_config=PRESETS[network.value](),
        config=config,
        source=Mixture(sources),
        out=out,
        prepare=prepare,
        facts=facts,
        workers=workers,
    )
    with training_progress(config.steps) as report:
        final = trainer.run(report, resume=resume)
    draw_curves(out / "history.csv", out / "history.png")
    typer.echo(f"{final}; next: s2svos export {final} -o {network.value}.s2s")


def _backbone(network: Preset, weights: str) -> Callable[[Lite | Paper], None]:
    """What loads and freezes the backbone; files are read now, so that mistakes show at once."""
    from s2svos import UserError
    from s2svos.network.checkpoint import read_weights
    from s2svos.network.lite import Lite

    if weights == "none":
        return lambda built: None
    if network is Preset.PAPER:
        if weights != "imagenet":
            raise typer.BadParameter(
                "paper takes imagenet or none", param_hint="--backbone-weights"
            )

        def load_vgg(built: Lite | Paper) -> None:
            if not isinstance(built, Lite):
                built.load_imagenet()

        return load_vgg
    state = read_weights(Path(weights))

    def load_mobilenet(built: Lite | Paper) -> None:
        if isinstance(built, Lite):
            try:
                built.encoder.backbone.load_features(state)
            except KeyError as error:
                raise UserError(
                    f"{weights} lacks {error.args[0]}; name MobileNet V1 1.0 weights with keys "
                    "conv1.weight, blocks.0.dw.weight and so on."
                ) from error
            built.encoder.backbone.freeze_early()

    return load_mobilenet
