"""``s2svos info``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from s2svos.commands.options import EngineChoice, GraphPrecision

if TYPE_CHECKING:
    from s2svos.profile import Profile

LONGEST = 8  # elements of a list that are shown
SHORT = ("Precisions", "TensorRT plans", "Parity with PyTorch")
SMALL = 0.005  # share of a step below which a layer is not worth a line
MOST_OBJECTS = 255


def info(
    bundle: Annotated[
        Path | None,
        typer.Argument(
            help="Bundle: lite, the default, lite-hq, lite-fast or NAME.s2s.", show_default=False
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print all of it as JSON.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also contract, drift, network, training, tools.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Tell where a step's time goes, layer by layer.")
    ] = False,
    engine: Annotated[EngineChoice, typer.Option(help="What --profile runs.")] = "auto",
    precision: Annotated[
        GraphPrecision, typer.Option(help="Of the graphs that --profile runs.")
    ] = GraphPrecision.FP32,
    objects: Annotated[
        int, typer.Option(min=1, max=MOST_OBJECTS, help="That --profile follows.")
    ] = 1,
) -> None:
    """Tell what a bundle is: precisions, parity, plans; or how long its layers take."""
    import json

    from s2svos import UserError
    from s2svos.about import about
    from s2svos.commands.terminal import print_table
    from s2svos.shipped import bundle_path
    from s2svos.standard_streams import need_standard_output
    from s2svos_engines.bundle import Bundle

    need_standard_output()
    opened = Bundle.open(bundle_path(bundle))
    if profile:
        from s2svos.profile import profile as measure

        _print_profile(
            measure(opened, engine=engine, precision=precision.value, objects=objects), as_json
        )
        return
    try:
        facts = about(opened)
        tables = list(_tables(facts))
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise UserError(
            f"{opened.path} says things of itself that are not understood "
            f"({type(error).__name__}: {error})",
            "export it again",
        ) from error
    if as_json:
        typer.echo(json.dumps(facts, indent=1))
        return
    typer.echo(
        f"{facts['path']}: {_megabytes(facts['bytes'])}, format {facts['format']}, "
        f"SHA-256 {facts['sha256']}"
    )
    typer.echo(f"An object's state takes {_megabytes(facts['contract']['state_bytes'])}.")
    for title, rows in tables:
        if everything or title in SHORT:
            print_table(rows, title=title)
    if not everything:
        typer.echo("\n--all tells of contract, drift, network, training and tools, too.")


def _print_profile(found: Profile, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from s2svos.commands.terminal import print_table

    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
        return
    whole = sum(layer.milliseconds for layer in found.layers)
    typer.echo(
        f"A step of {found.objects} object{'s'[: found.objects > 1]} on {found.engine} in "
        f"{found.precision} has {len(found.layers)} layers, which take {whole:.1f} ms; counting "
        f"makes them slower. The peak is {found.peak / 1e9:.0f} GFLOP/s in fp32."
    )
    head = ("layer", "operator", "ms", "share", "MFLOP", "of peak", "kernel")
    rows = [
        (
            layer.name,
            layer.operator,
            f"{layer.milliseconds:.3f}",
            f"{layer.share:.1%}",
            f"{layer.megaflops:.1f}" if layer.megaflops else "",
            f"{layer.of_peak:.0%}" if layer.megaflops else "",
            layer.kernel,
        )
        for layer in found.layers
        if layer.share >= SMALL
    ]
    kinds: dict[str, float] = {}
    for layer in found.layers:
        kind = f"{layer.operator} {layer.kernel}"
        kinds[kind] = kinds.get(kind, 0) + layer.milliseconds
    print_table([head, *rows], title=f"Layers of {SMALL:.1%} or more")
    slowest = sorted(kinds.items(), key=lambda one: -one[1])
    print_table(
        [(f"{ms:.3f} ms", f"{ms / whole:.1%}", kind) for kind, ms in slowest], title="Kinds"
    )


def _tables(facts: Mapping[str, Any]) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """Yield titles and rows."""
    yield "Contract", list(_contract(facts["contract"]))
    yield "Precisions", list(_precisions(facts["precisions"]))
    yield "TensorRT plans", list(_plans(facts["plans"])) or [("none",)]
    yield "Parity with PyTorch", list(_parity(facts["parity"]))
    yield "Drift from PyTorch", list(_drift(facts["drift"]))
    for part in ("network", "training", "tools"):
        yield part.capitalize(), list(_flat(facts[part]))


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
    clip = f" of {one['clip']}" if "clip" in one else ""  # what older bundles do not say
    return (
        f"mean IoU {one['mean_iou']:.4f} over {one['frames']} frames{clip}, worst "
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
