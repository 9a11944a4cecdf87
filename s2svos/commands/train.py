"""``s2svos train``."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2svos.commands.options import MOST_PROCESSES, MOST_STEPS, within

if TYPE_CHECKING:
    from s2svos.training.config import TrainConfig

TRAIN = "train"  # the extra
MOST_CLIPS = 4096
FROM_SCRATCH = (
    "The backbone starts from random weights; masks are much better from ImageNet's: "
    "--backbone-weights imagenet."
)


class Precision(StrEnum):
    """Arithmetic of the network."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


def train(
    out: Annotated[Path, typer.Option(help="Folder for checkpoints, curves and records.")],
    config: Annotated[
        str | None,
        typer.Option(
            metavar="lite|paper|fine-tune|FILE.yaml",
            help="All numbers of the training; the options below win over it. fine-tune goes on "
            "from the weights that ship. Default: lite, or the config of the run that is resumed.",
        ),
    ] = None,
    data: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[=DIR][:WEIGHT]",
            help="What to train on; more than once for a mixture: davis=DIR, davis2017=DIR, "
            "youtube-vos=DIR, stills=DIR, folder=DIR, or synthetic, which needs no files.",
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_STEPS, help="Optimiser steps in all; phases keep their shares."
        ),
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 10_000, or_low=True), help="Or epochs, of epoch_clips clips each."
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_CLIPS, help="Clips a step, over all devices, in every phase."),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            callback=within(0, 1, or_low=True),
            help="Highest learning rate; the backbone's goes along.",
        ),
    ] = None,
    backbone_weights: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|imagenet|none",
            help="Weights that the backbone starts from: imagenet (lite's come with the extra "
            "train, paper's are downloaded), a file for lite, or none.",
        ),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="lite|lite-fast|FILE.pt",
            help="Checkpoint whose weights to start from instead: lite or lite-fast, which ship, "
            "or a file.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from OUT/last.pt; begin where there is none."),
    ] = False,
    accumulate: Annotated[
        int | None,
        typer.Option(
            min=1, max=MOST_CLIPS, help="Parts of a batch that are computed one after the other."
        ),
    ] = None,
    devices: Annotated[
        int | None,
        typer.Option(min=1, max=MOST_PROCESSES, help="GPUs, or processes where there is none."),
    ] = None,
    precision: Annotated[Precision | None, typer.Option(help="Of the network.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0, max=MOST_PROCESSES, help="Processes, for each device, that make clips."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, max=2**63 - 1024, help="Of weights and clips.")
    ] = None,
    strict: Annotated[
        bool | None,
        typer.Option("--strict/--skip", help="Stop at damaged files, or skip and count them."),
    ] = None,
) -> None:
    """Train a network; Ctrl-C stops it so that --resume goes on."""
    from s2svos.locks import locked_folder

    if steps is not None and epochs is not None:
        raise typer.BadParameter("give either --steps or --epochs", param_hint="--steps")
    options = {
        "init": str(init) if init else None,
        "grad_accumulation": accumulate,
        "devices": devices,
        "precision": precision.value if precision else None,
        "workers": workers,
        "seed": seed,
        "strict": strict,
        "data": data or None,
        "backbone_weights": backbone_weights,
        "batch_size": batch_size,  # before the lengths, which it changes
        "steps": steps,
        "epochs": epochs,
        "lr": lr,
    }
    # The other processes of a training, which print nothing, have a rank above 0.
    first = int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
    with locked_folder(out) if first else nullcontext():
        _train(out, config, options, resume=resume, first=first)


def _train(
    out: Path, config: str | None, options: dict[str, Any], *, resume: bool, first: bool
) -> None:
    from s2svos.extras import needs

    with needs(TRAIN):
        from s2svos.commands.terminal import training_progress
        from s2svos.data.dataset import open_source
        from s2svos.training.initial_weights import first_frames, from_scratch, starting_network
        from s2svos.training.trainer import Trainer
        from s2svos.training.validation import validation_videos

    saved = _saved(out, resume=resume)
    wanted = _config(config, saved, out, options)
    done = saved["resume"]["step"] if saved else 0
    if first and saved:
        typer.echo(f"Going on from {out / 'last.pt'}, step {done}.", err=True)
    elif first and from_scratch(wanted):
        typer.echo(FROM_SCRATCH, err=True)
    network = starting_network(wanted, resumed=saved is not None)
    source = open_source(wanted.data, objects=wanted.objects, strict=wanted.strict)
    if saved is None and not wanted.init:
        size = wanted.network.height, wanted.network.width
        network.eval().fit_keys(first_frames(source, seed=wanted.seed, size=size))
    trainer = Trainer(
        wanted,
        network=network,
        source=source,
        out=out,
        videos=validation_videos(wanted),
        resume=saved,
    )
    try:
        with training_progress(wanted.steps, done, shown=first) as report:
            final = trainer.run(report)
    except KeyboardInterrupt:
        if first and trainer.step:
            typer.echo(f"{out / 'last.pt'} has the run so far; --resume goes on from it.", err=True)
        raise
    finally:
        if first and (skipped := source.skipped.summary()):
            typer.echo(skipped, err=True)
    if first:
        name = wanted.network.preset
        typer.echo(f"{final}; next: s2svos export {final} -o {name}.s2s")


def _saved(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """Return the checkpoint that a run goes on from, None if it begins."""
    from s2svos import UserError
    from s2svos.network.checkpoint import read_checkpoint
    from s2svos.training.run_log import refuse_files_of_others

    last = out / "last.pt"
    if not resume:
        for path in (last, out / "final.pt"):
            if path.exists():
                raise UserError(
                    f"{path} is of an earlier run", "go on with --resume, or choose another --out"
                )
    if not last.exists():
        refuse_files_of_others(out)
        return None
    saved = read_checkpoint(last)
    if not (saved.get("resume") or {}).get("config"):
        raise UserError(
            f"{last} cannot be gone on from, as it lacks the state of the trainer",
            f"begin another run from its weights with --init {last} and another --out",
        )
    return saved


def _config(
    name: str | None, saved: dict[str, Any] | None, out: Path, options: dict[str, Any]
) -> TrainConfig:
    """Return the config of the file or of the run so far, with the options over it, in order."""
    from s2svos import UserError
    from s2svos.training import config as configs
    from s2svos.training import config_file as files
    from s2svos.training.initial_weights import config_of_init, with_widths_of

    last, before = out / "last.pt", None
    if saved:
        before = files.settings_from_json(saved["resume"]["config"], str(last))
    wanted = before if before and not name else files.load_config(name or "lite")
    changes: dict[str, Callable[[TrainConfig, Any], TrainConfig]] = {
        "data": files.with_data,
        "backbone_weights": configs.with_backbone_weights,
        "batch_size": configs.with_batch,
        "steps": configs.with_steps,
        "epochs": configs.with_epochs,
        "lr": configs.with_lr,
    }
    for key, value in options.items():
        if value is not None:
            change = changes.get(key)
            wanted = change(wanted, value) if change else replace(wanted, **{key: value})
    if before or wanted.init:  # a pruned network stays as narrow
        network = before.network if before else config_of_init(str(wanted.init))
        wanted = with_widths_of(wanted, network)
    # It is checked again.
    wanted = files.settings_from_json(files.settings_to_json(wanted), "the command line")
    if before:
        files.check_resumable(before, wanted, last)
    if wanted.steps > MOST_STEPS:
        raise UserError(f"{wanted.steps} steps are too many", f"take {MOST_STEPS} at most")
    if not wanted.data:
        raise UserError(
            "There is nothing to train on", "name it, as in --data davis=DIR, or --data synthetic"
        )
    return wanted
