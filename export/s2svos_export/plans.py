"""TensorRT plans of every graph of a bundle."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from s2svos_engines.bundle import Bundle, add_plans
from s2svos_engines.errors import UserError
from s2svos_engines.plan_store import build, planned
from s2svos_engines.plans import Plan
from s2svos_engines.tensorrt_builder import MOST_OBJECTS, build_target


def build_plans(
    path: Path,
    library: str,
    *,
    say: Callable[[str], None],
    max_objects: int = MOST_OBJECTS,
) -> list[Plan]:
    """Builds a plan of each graph of a bundle and adds them to it.

    Args:
        path: of the bundle, which is rewritten when all plans are built.
        library: ``tensorrt``, for the GPU of this machine, or ``tensorrt-rtx``, for every RTX GPU
            from Ampere on, without one.
        say: is told what happens.
        max_objects: how many objects the plans follow at most.

    Returns:
        The plans' records.

    Raises:
        UserError: the library is missing, has no GPU here or refuses a graph, or the bundle cannot
            be read or written. It is what it was.
    """
    bundle, target = Bundle.open(path), build_target(library)
    plans = [
        planned(bundle, graph, precision, target, max_objects=max_objects)
        for precision, graphs in bundle.manifest["graphs"].items()
        for graph in graphs
    ]
    say(f"building plans for {target}")
    built: dict[str, bytes] = {}
    for plan in plans:
        if plan.member not in built:
            say(f"building {plan.graph} in {plan.precision}")
            built[plan.member] = build(bundle, plan)
    try:
        add_plans(path, [(plan.to_json(), built[plan.member]) for plan in plans])
    except OSError as error:
        raise UserError(
            f"{path} cannot be written ({error.strerror}); free space, or copy it elsewhere."
        ) from error
    return plans
