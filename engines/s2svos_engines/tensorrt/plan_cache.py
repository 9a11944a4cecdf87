"""Plans built from a bundle's graphs: added to the bundle, or cached for this user.

A cached plan lies in a bundle of its own, without graphs: so its seal is checked as every bundle's.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path

from s2svos_engines.bundle import Bundle, add_plans, write_bundle
from s2svos_engines.errors import UserError
from s2svos_engines.files import cache_folder, disk_errors
from s2svos_engines.tensorrt.builder import MAX_OBJECTS, build_plan, build_target
from s2svos_engines.tensorrt.plans import Plan, Target, matching_plan, plans_of


def plan_here(
    bundle: Bundle, graph: str, precision: str, here: Target, *, objects: int = 1
) -> tuple[Plan, bytes]:
    """Return the plan of a graph that runs here, and its record.

    The bundle's own; where it has none of this graph, the cached one, which is built first if it is
    missing, damaged or for fewer objects.

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
        plan = matching_plan(bundle, graph, precision, here, objects=objects)
        return plan, bundle.read(plan.member)
    machine = hashlib.sha256(json.dumps(vars(here)).encode()).hexdigest()
    name = f"{bundle.sha256[:16]}-{machine[:16]}-{precision}-{graph}.s2s"
    path = cache_folder() / "plans" / name
    try:
        cached = Bundle.open(path)
        plan = matching_plan(cached, graph, precision, here, objects=objects)
        return plan, cached.read(plan.member)
    except UserError:
        max_objects = max(MAX_OBJECTS, 1 << (objects - 1).bit_length())
    plan = new_plan(bundle, graph, precision, build_target(here.library), max_objects=max_objects)
    data = build(bundle, plan)
    path.parent.mkdir(exist_ok=True)
    facts, others = {"plans": [plan.to_json()]}, {plan.member: data}
    write_bundle(path, contract=bundle.contract, graphs={}, facts=facts, others=others, shared=True)
    return plan, data


def build_plans(
    path: Path, library: str, *, log: Callable[[str], None], max_objects: int | None = None
) -> list[Plan]:
    """Build a plan of each graph of a bundle and add them to it.

    Args:
        path: of the bundle, which is rewritten when all plans are built.
        library: ``tensorrt``, for the GPU of this machine, or ``tensorrt-rtx``, for every RTX GPU
            from Ampere on, without one.
        log: is called with what is being done.
        max_objects: how many objects the plans follow at most; None for :data:`MAX_OBJECTS`.

    Returns:
        The plans' records.

    Raises:
        UserError: the library is missing, has no GPU here or refuses a graph, or the bundle cannot
            be read or written. It is what it was.
    """
    bundle, target = Bundle.open(path).for_gpu(), build_target(library)
    plans = [
        new_plan(bundle, graph, precision, target, max_objects=max_objects or MAX_OBJECTS)
        for precision, graphs in bundle.manifest.graphs.items()
        for graph in graphs
    ]
    log(f"building plans for {target}")
    built: dict[str, bytes] = {}
    for plan in plans:
        if plan.member not in built:
            log(f"building {plan.graph} in {plan.precision}")
            built[plan.member] = build(bundle, plan)
    with disk_errors(path, again="run again", elsewhere="copy it elsewhere"):
        add_plans(path, [(plan.to_json(), built[plan.member]) for plan in plans])
    return plans


def new_plan(
    bundle: Bundle, graph: str, precision: str, target: Target, *, max_objects: int = MAX_OBJECTS
) -> Plan:
    """Return the record of a plan that is yet to be built."""
    folder = re.sub(r"[^A-Za-z0-9.]+", "-", f"{target.library} {target.gpu or 'portable'}")
    model = bundle.manifest.graphs[precision][graph]
    # Named by the model, so that precisions that share a model share its plan.
    member = f"plans/{folder}/{model.removesuffix('.onnx')}.plan"
    return Plan(member, graph, precision, max_objects, target)


def build(bundle: Bundle, plan: Plan) -> bytes:
    """Build a plan from its graph in the bundle.

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
