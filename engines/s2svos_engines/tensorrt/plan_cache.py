"""Plans from a bundle's graphs: into the bundle by ``s2svos export``, or kept for this user.

TensorRT plans of every graph of a bundle."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path

from s2svos_engines.bundle import Bundle, add_plans, write_bundle
from s2svos_engines.errors import UserError
from s2svos_engines.files import cache_folder
from s2svos_engines.tensorrt.builder import MOST_OBJECTS, build_plan, build_target
from s2svos_engines.tensorrt.plans import Plan, Target, matching_plan, plans_of, read_plan


def planned(
    bundle: Bundle, graph: str, precision: str, target: Target, *, max_objects: int = MOST_OBJECTS
) -> Plan:
    """The record of a plan that is yet to be built."""
    where = re.sub(r"[^A-Za-z0-9.]+", "-", f"{target.library} {target.gpu or 'portable'}")
    model = bundle.manifest.graphs[precision][graph]
    # Named by the model, so that precisions that share a model share its plan.
    member = f"plans/{where}/{model.removesuffix('.onnx')}.plan"
    return Plan(member, graph, precision, max_objects, target)


def build(bundle: Bundle, plan: Plan) -> bytes:
    """Builds a plan from its graph in the bundle.

    Raises:
        UserError: the library refuses the graph.
    """
    return build_plan(
        bundle.graph(plan.graph, precision=plan.precision),
        bundle.contract,
        plan.graph,
        plan.target,
        title=f"{bundle.path.stem} {plan.graph} {plan.precision}",
        max_objects=plan.max_objects,
    )


def plan_here(
    bundle: Bundle, graph: str, precision: str, here: Target, *, objects: int = 1
) -> tuple[Plan, bytes]:
    """The plan of a graph that runs here, and its record.

    The bundle's own; where it has none of this graph, one that is built now and kept in the user's
    cache folder, sealed as every bundle is.

    Args:
        bundle: checked bundle.
        graph: ``init``, ``step`` or ``stepT``.
        precision: of the graph.
        here: library, GPU and driver that are to run it.
        objects: how many are to be followed.

    Raises:
        UserError: the bundle's plan does not fit here, or none can be built.
    """
    if plans_of(bundle, graph, precision, here.library):
        return _read(bundle, graph, precision, here, objects)
    machine = hashlib.sha256(json.dumps(vars(here)).encode()).hexdigest()
    name = f"{bundle.sha256[:16]}-{machine[:16]}-{precision}-{graph}.s2s"
    path = cache_folder() / "plans" / name
    try:
        return _read(Bundle.open(path), graph, precision, here, objects)
    except UserError:  # not there yet, damaged, or for fewer objects
        path.parent.mkdir(exist_ok=True)
    most = max(MOST_OBJECTS, 1 << (objects - 1).bit_length())
    target = build_target(here.library)
    plan = planned(bundle, graph, precision, target, max_objects=most)
    data = build(bundle, plan)
    beside = path.with_name(f"{name}.{os.getpid()}")  # others may be building the same
    facts, others = {"plans": [plan.to_json()]}, {plan.member: data}
    write_bundle(beside, contract=bundle.contract, graphs={}, facts=facts, others=others)
    os.replace(beside, path)
    return plan, data


def _read(
    bundle: Bundle, graph: str, precision: str, here: Target, objects: int
) -> tuple[Plan, bytes]:
    plan = matching_plan(bundle, graph, precision, here, objects=objects)
    return plan, read_plan(bundle, plan)


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
        for precision, graphs in bundle.manifest.graphs.items()
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
            f"{path} cannot be written ({error.strerror})", "free space, or copy it elsewhere"
        ) from error
    return plans
