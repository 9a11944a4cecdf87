"""``s2svos info``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

LONGEST = 8  # elements of a list that are shown


def info(
    bundle: Annotated[
        Path | None, typer.Argument(help="Bundle, NAME.s2s; default: the one that ships.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
) -> None:
    """Tell what a bundle is: contract, precisions, plans, parity, training."""
    import json

    from s2svos import default_bundle
    from s2svos.about import about
    from s2svos.commands.terminal import print_table
    from s2svos.standard_streams import need_standard_output
    from s2svos_engines.bundle import Bundle

    need_standard_output()
    facts = about(Bundle.open(bundle or default_bundle()))
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(
        f"{facts['path']}: {_megabytes(facts['bytes'])}, format {facts['format']}, "
        f"SHA-256 {facts['sha256']}"
    )
    contract = facts["contract"]
    print_table(list(_contract(contract)), title="Contract")
    typer.echo(f"An object's state takes {_megabytes(contract['state_bytes'])}.")
    print_table(list(_precisions(facts["precisions"])), title="Precisions")
    print_table(list(_plans(facts["plans"])) or [("none",)], title="TensorRT plans")
    print_table(list(_parity(facts["parity"])), title="Parity with PyTorch")
    print_table(list(_drift(facts["drift"])), title="Drift from PyTorch")
    for part in ("network", "training", "tools"):
        print_table(list(_flat(facts[part])), title=part.capitalize())


def _contract(contract: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for graph, interface in contract["graphs"].items():
        for way in ("inputs", "outputs"):
            for spec in interface[way]:
                shape = ", ".join(map(str, spec["shape"]))
                yield graph, way[:-1], spec["name"], spec["dtype"], f"[{shape}]"


def _precisions(precisions: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for precision, graphs in precisions.items():
        sizes = (f"{graph} {_megabytes(one['bytes'])}" for graph, one in graphs.items())
        yield precision, ", ".join(sizes)


def _plans(plans: list[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for plan in plans:
        objects = f"up to {plan['max_objects']} objects"
        size = _megabytes(plan["bytes"])
        yield plan["precision"], plan["graph"], objects, size, plan["for"]


def _parity(parity: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for precision, one in parity.items():
        yield precision, _iou(one), f"on {one['engine']}"


def _drift(drift: list[Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for one in drift:
        yield one["precision"], one["engine"], one["graph"], _iou(one)


def _iou(one: Mapping[str, Any]) -> str:
    return (
        f"mean IoU {one['mean_iou']:.4f} over {one['frames']} frames, worst "
        f"{one['worst_iou']:.4f} on frame {one['worst_frame']}"
    )


def _flat(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Nested facts as lines of dotted names."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(one, Mapping) for one in value):
            yield from _flat(
                {str(index): one for index, one in enumerate(value)}, f"{prefix}{name}."
            )
        elif isinstance(value, list):
            shown = ", ".join(map(str, value[:LONGEST]))
            more = f" and {len(value) - LONGEST} more" if len(value) > LONGEST else ""
            yield f"{prefix}{name}", f"{shown}{more}"
        else:
            yield f"{prefix}{name}", str(value)


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
