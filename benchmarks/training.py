"""How fast a training runs, and how much of the time it waits for its clips.

python -m benchmarks.training
python -m benchmarks.training --config paper --data davis=DIR --workers 2
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.report import append_json, print_table, run_script

if TYPE_CHECKING:
    from s2svos.training.run_log import Step

WARM_UP = 3
"""Steps that are not counted: workers start, memory is allocated, kernels are chosen."""


def main(
    config: Annotated[str, typer.Option(help="lite, paper or a YAML file.")] = "lite",
    data: Annotated[
        list[str] | None, typer.Option(help="What to train on, as for s2svos train.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of each phase, after a warm-up.")] = 20,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Clips a step.")] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes that make clips.")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32, bf16 or fp16.")] = "auto",
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Time every phase of a training; the backbone is frozen if the config says so."""
    import torch

    from s2svos import UserError
    from s2svos.data.dataset import open_source
    from s2svos.training.config import with_batch
    from s2svos.training.config_file import load_config, with_data
    from s2svos.training.initial_weights import starting_network
    from s2svos.training.trainer import Trainer

    wanted = with_data(load_config(config), data or ["synthetic"])
    if batch_size:
        wanted = with_batch(wanted, batch_size)
    if precision not in ("auto", "fp32", "bf16", "fp16"):
        raise UserError(f"{precision} is no precision", "choose auto, fp32, bf16 or fp16")
    wanted = replace(
        wanted,
        backbone=replace(wanted.backbone, weights="none"),
        validation=replace(wanted.validation, every=0),
        precision=precision,  # type: ignore[arg-type]
        workers=wanted.workers if workers is None else workers,
        checkpoint_every=10**9,
    )
    source = open_source(wanted.data, objects=wanted.objects, strict=wanted.strict)
    rows, results = [], []
    for phase in wanted.phases:
        alone = replace(wanted, phases=(replace(phase, steps=WARM_UP + steps, epochs=None),))
        network = starting_network(alone)
        if wanted.backbone.freeze:
            network.freeze_backbone()
        seen: list[Step] = []
        with tempfile.TemporaryDirectory() as out:
            Trainer(alone, network=network, source=source, out=Path(out)).run(seen.append)
        counted = seen[WARM_UP:]
        seconds = sum(step.seconds for step in counted)
        clips = sum(step.clips for step in counted)
        waiting = sum(step.waiting for step in counted) / seconds
        results.append(
            {
                "length": phase.length,
                "size": [phase.height, phase.width],
                "batch": phase.batch,
                "steps": len(counted),
                "clips_per_second": clips / seconds,
                "seconds_per_step": seconds / len(counted),
                "waiting_share": waiting,
            }
        )
        rows.append(
            [
                f"{phase.length} x {phase.height}x{phase.width}",
                *(str(phase.batch), f"{clips / seconds:.2f}"),
                *(f"{seconds / len(counted):.3f}", f"{waiting:.1%}"),
            ]
        )
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    title = f"training {wanted.network.preset} on {device}, {wanted.workers} workers"
    print_table(title, ["clips", "batch", "clips/s", "s/step", "waiting"], rows)
    if json:
        facts = {
            "config": config,
            "device": device,
            "torch": str(torch.__version__),
            "threads": torch.get_num_threads(),
            "precision": precision,
            "workers": wanted.workers,
            "data": [entry.label for entry in wanted.data],
            "phases": results,
        }
        append_json(json, "training", facts)


if __name__ == "__main__":
    run_script(main)
