"""TensorRT plans in a bundle: what each was built for, and which one fits here.

A plan is code for one machine. Whether it belongs here is decided from the bundle's manifest; no
byte of it goes to TensorRT before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.tensorrt.library import LIBRARIES


@dataclass(frozen=True)
class Target:
    """Library, GPU and driver that a plan is built for, or that are there to run it.

    Args:
        library: ``tensorrt`` or ``tensorrt-rtx``.
        version: of the library; plans of another are refused.
        compute_capabilities: of the GPUs, for instance ``("8.6", "8.9")``; one for a machine.
        gpu: name of the GPU; None where a plan fits all of these compute capabilities.
        driver: its version; None where a plan fits any.
    """

    library: str
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None = None
    driver: str | None = None

    def fits(self, here: Target) -> bool:
        """Return whether a plan for this runs ``here``."""
        return (
            (self.library, self.version) == (here.library, here.version)
            and set(here.compute_capabilities) <= set(self.compute_capabilities)
            and self.gpu in (None, here.gpu)
            and self.driver in (None, here.driver)
        )

    def __str__(self) -> str:
        capabilities = ", ".join(self.compute_capabilities)
        gpu = f"{self.gpu} ({capabilities})" if self.gpu else f"compute capability {capabilities}"
        driver = f" with driver {self.driver}" if self.driver else ""
        return f"{LIBRARIES[self.library].title} {self.version} on {gpu}{driver}"


@dataclass(frozen=True)
class Plan:
    """A record of the manifest's list ``plans``.

    Args:
        member: of the bundle, the plan itself.
        graph: ``init``, ``step`` or ``stepT``.
        precision: of the graph.
        max_objects: how many objects it follows at most.
        target: what it was built for.
    """

    member: str
    graph: str
    precision: str
    max_objects: int
    target: Target

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Plan:
        """Read the record that :meth:`to_json` wrote."""
        target = dict(data["target"])
        target["compute_capabilities"] = tuple(target["compute_capabilities"])
        return cls(**{**data, "target": Target(**target)})


def plans_of(bundle: Bundle, graph: str, precision: str, library: str) -> list[Plan]:
    """Return a bundle's plans of a graph for a library, for any target.

    Raises:
        UserError: its list of plans makes no sense.
    """
    try:
        plans = [Plan.from_json(record) for record in bundle.manifest.plans]
        missing = {plan.member for plan in plans} - set(bundle.manifest.members)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{bundle.path} lists its plans wrongly ({error})", "export it again"
        ) from error
    if missing:
        raise UserError(f"{bundle.path} lists plans that it lacks ({missing})", "export it again")
    wanted = (graph, precision, library)
    return [p for p in plans if (p.graph, p.precision, p.target.library) == wanted]


def matching_plan(
    bundle: Bundle, graph: str, precision: str, here: Target, *, objects: int = 1
) -> Plan:
    """Return the bundle's plan of a graph that runs here.

    Args:
        bundle: checked bundle.
        graph: ``init``, ``step`` or ``stepT``.
        precision: of the graph.
        here: library, GPU and driver that are to run it.
        objects: how many are to be followed.

    Raises:
        UserError: there is no plan of the graph, or none for this GPU, library, driver and number
            of objects; says how to build it.
    """
    plans = plans_of(bundle, graph, precision, here.library)
    rebuild = f"s2svos export {bundle.path} --plan {here.library}"
    what = f"{LIBRARIES[here.library].title} plan of {graph} in {precision}"
    if not plans:
        raise UserError(f"{bundle.path} holds no {what}", f"build it here with {rebuild}")
    fitting = [plan for plan in plans if plan.target.fits(here)]
    if not fitting:
        targets = " and for ".join(str(plan.target) for plan in plans)
        raise UserError(
            f"The {what} in {bundle.path} is for {targets}, but here is {here}",
            f"rebuild it here with {rebuild}",
        )
    best = max(fitting, key=lambda plan: plan.max_objects)
    if best.max_objects < objects:
        raise UserError(
            f"The {what} in {bundle.path} follows at most {best.max_objects} objects, not "
            f"{objects}",
            f"rebuild it here with {rebuild} --max-objects {objects}",
        )
    return best
