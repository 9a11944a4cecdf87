"""Plans from a bundle's graphs: into the bundle by ``s2svos export``, or kept for this user."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil

from s2svos_engines.bundle import Bundle, add_plans
from s2svos_engines.cache import cache_folder
from s2svos_engines.errors import UserError
from s2svos_engines.plans import Plan, Target, matching_plan, plans_of, read_plan
from s2svos_engines.tensorrt_builder import MOST_OBJECTS, build_plan, build_target


def planned(
    bundle: Bundle, graph: str, precision: str, target: Target, *, max_objects: int = MOST_OBJECTS
) -> Plan:
    """The record of a plan that is yet to be built."""
    where = re.sub(r"[^A-Za-z0-9.]+", "-", f"{target.library} {target.gpu or 'portable'}")
    model: str = bundle.manifest["graphs"][precision][graph]
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

    The bundle's own; where it has none of this graph, one that is built now and kept, in a copy of
    the bundle in the user's cache folder. So every plan that is executed is in the sealed list of
    checksums of a bundle.

    Args:
        bundle: checked bundle.
        graph: ``init``, ``step`` or ``stepT``.
        precision: of the graph.
        here: library, GPU and driver that are to run it.
        objects: how many are to be followed.

    Raises:
        UserError: the bundle's plan does not fit here, or none can be built.
    """
    if not plans_of(bundle, graph, precision, here.library):
        copy = _kept_copy(bundle, here)
        kept = plans_of(copy, graph, precision, here.library)
        if not any(plan.max_objects >= objects for plan in kept):
            most = max(MOST_OBJECTS, 1 << (objects - 1).bit_length())
            target = build_target(here.library)
            plan = planned(bundle, graph, precision, target, max_objects=most)
            add_plans(copy.path, [(plan.to_json(), build(bundle, plan))])
            copy = Bundle.open(copy.path)
        bundle = copy
    plan = matching_plan(bundle, graph, precision, here, objects=objects)
    return plan, read_plan(bundle, plan)


def _kept_copy(bundle: Bundle, here: Target) -> Bundle:
    """The user's copy of a bundle, for plans that run here."""
    machine = hashlib.sha256(json.dumps(vars(here)).encode()).hexdigest()
    path = cache_folder() / "plans" / f"{bundle.sha256[:16]}-{machine[:16]}.s2s"
    try:
        return Bundle.open(path)
    except UserError:  # not there yet, or damaged
        path.parent.mkdir(exist_ok=True)
        beside = path.with_name(f"{path.name}.{os.getpid()}")
        shutil.copyfile(bundle.path, beside)
        os.replace(beside, path)
        return Bundle.open(path)
