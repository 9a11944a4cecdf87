"""``s2svos prune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2svos.commands.options import MOST_PROCESSES, MOST_STEPS, within
from s2svos.shipped import DEFAULT

if TYPE_CHECKING:
    from s2svos.data.dataset import Mixture
    from s2svos.network.lite import Lite
    from s2svos.training.distillation import Distillation

TRAIN = "train"  # the extra
SAVE_EVERY = 200  # steps
LENGTH = 2  # frames of a clip


def prune(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Checkpoint to write, a .pt.", show_default=False)
    ],
    data: Annotated[
        list[str],
        typer.Option(
            metavar="KIND[=DIR][:WEIGHT]",
            help="Pictures to keep the features of, as train has them; more than once for a "
            "mixture.",
            show_default=False,
        ),
    ],
    checkpoint: Annotated[
        str,
        typer.Argument(
            metavar="[lite|FILE.pt]",
            help="What is pruned: lite, the default, or a checkpoint of your own.",
        ),
    ] = DEFAULT,
    share: Annotated[
        float,
        typer.Option(callback=within(0, 1), help="Of the backbone's products that is to stay."),
    ] = 0.5,
    steps: Annotated[
        int,
        typer.Option(min=0, max=MOST_STEPS, help="Steps of distillation from the whole backbone."),
    ] = 4000,
    batch_size: Annotated[
        int, typer.Option(min=1, max=4096, help=f"Clips of {LENGTH} frames a step.")
    ] = 2,
    lr: Annotated[float, typer.Option(callback=within(0, 1), help="Highest learning rate.")] = 2e-3,
    workers: Annotated[
        int, typer.Option(min=0, max=MOST_PROCESSES, help="Processes that make clips.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1024, help="Of the clips.")] = 1,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from OUT; begin where there is none.")
    ] = False,
) -> None:
    """Take channels out of a network's backbone and distil what is left; needs no masks.

    Ctrl-C stops it so that --resume goes on.
    """
    from s2svos.extras import needs

    with needs(TRAIN):
        import torch

        from s2svos.commands.terminal import counting_progress
        from s2svos.data.config import Phase, parse_data
        from s2svos.data.dataset import batches, open_source
        from s2svos.interrupt import Interrupt
        from s2svos.training.distillation import Distillation

    whole, facts = _whole(checkpoint)
    saved = _saved(out, resume=resume)
    source = open_source([parse_data(text) for text in data])
    pruned = _pruned(whole, saved, source, share=share, seed=seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    distillation = Distillation(pruned, whole, steps=steps, lr=lr, device=device)
    if saved:
        distillation.restore(saved["resume"]["distillation"], saved["weights"])
        typer.echo(f"Going on from {out}, step {distillation.step}.", err=True)
    facts |= {"pruned": {"share": share, "steps": steps, "lr": lr, **source.facts()}}
    done, size = distillation.step, (whole.config.height, whole.config.width)
    loader = batches(
        source,
        Phase(steps, batch_size, LENGTH, *size),
        seed=seed,
        first=done * batch_size,
        count=max(0, steps - done),
        workers=workers,
    )
    with Interrupt() as interrupt, counting_progress("steps", total=steps, done=done) as update:
        for batch in loader:
            distillation.run(batch.frames.flatten(0, 1))
            update(completed=distillation.step)
            if interrupt.wanted or distillation.step % SAVE_EVERY == 0:
                _save(out, distillation, facts, finished=False)
            if interrupt.wanted:
                typer.echo(f"{out} has the work so far; --resume goes on from it.", err=True)
                raise KeyboardInterrupt
    _save(out, distillation, facts, finished=True)
    if skipped := source.skipped.summary():
        typer.echo(skipped, err=True)
    typer.echo(f"{out}; next: s2svos export {out} -o {out.with_suffix('.s2s').name}")


def _whole(checkpoint: str) -> tuple[Lite, dict[str, Any]]:
    """Return the network to prune and the facts of its checkpoint."""
    from s2svos import UserError
    from s2svos.network.checkpoint import load_network, read_checkpoint
    from s2svos.network.lite import Lite
    from s2svos.shipped import checkpoint_path

    path = checkpoint_path(checkpoint)
    network = load_network(path)
    if not isinstance(network, Lite):
        raise UserError(
            f"{path} is a {network.config.preset} network", "name a lite one: no other is pruned"
        )
    return network, dict(read_checkpoint(path)["facts"])


def _saved(out: Path, *, resume: bool) -> dict[str, Any] | None:
    """Return the checkpoint that is gone on from, None if there is none."""
    from s2svos import UserError
    from s2svos.network.checkpoint import read_checkpoint

    if not out.exists():
        return None
    if not resume:
        raise UserError(f"{out} exists", "go on with --resume, or choose another --out")
    saved = read_checkpoint(out)
    if "distillation" not in (saved.get("resume") or {}):
        raise UserError(f"{out} is no pruning that was stopped", "choose another --out")
    return saved


def _pruned(
    whole: Lite, saved: dict[str, Any] | None, source: Mixture, *, share: float, seed: int
) -> Lite:
    import torch

    from s2svos.network.config import LiteConfig, config_from_json
    from s2svos.network.lite import Lite
    from s2svos.training.initial_weights import first_frames
    from s2svos.training.pruning import prune

    if saved:
        config = config_from_json(saved["network"])
        assert isinstance(config, LiteConfig)
        return Lite(config)
    size = whole.config.height, whole.config.width
    frames = torch.stack(list(first_frames(source, seed=seed, size=size)))
    return prune(whole, frames, share)


def _save(out: Path, distillation: Distillation, facts: dict[str, Any], *, finished: bool) -> None:
    from s2svos.network.checkpoint import save_checkpoint

    network = distillation.average
    save_checkpoint(
        out,
        config=network.config,
        weights={key: value.contiguous() for key, value in network.state_dict().items()},
        facts=facts,
        resume=None if finished else {"distillation": distillation.state()},
    )
