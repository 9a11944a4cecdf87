"""The whole examination."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from s2svos.doctor.finding import Finding, State
from s2svos.doctor.system import (
    examine_cores,
    examine_encoder,
    examine_imports,
    examine_packages,
    examine_processor,
    examine_python,
)


def examine(bundle: Path, *, log: Callable[[str], None]) -> Iterator[Finding]:
    """Examine everything, the quick things first.

    Args:
        bundle: whose graphs the engines are to run.
        log: is called with what is being examined.
    """
    log("packages and machine")
    yield from examine_python()
    yield from examine_packages()
    yield from examine_processor()
    yield from examine_cores()
    broken = list(examine_imports())
    yield from broken
    if broken:
        remedy = "Mend the packages above, then run s2svos doctor again."
        yield Finding("engines", State.INFO, "not tested, as they need these packages", remedy)
        return
    yield from examine_encoder()
    yield from _examine_engines(bundle, log)


def _examine_engines(path: Path, log: Callable[[str], None]) -> Iterator[Finding]:
    # Here, since they import the packages that might be broken.
    from s2svos.doctor.engines import examine_engines
    from s2svos.doctor.gpu import examine_gpu, read_driver
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.errors import UserError

    driver = read_driver()
    yield from examine_gpu(driver)
    try:
        bundle = Bundle.open(path)
    except UserError as error:
        yield Finding("bundle", State.PROBLEM, error.problem, error.remedy)
        return
    text = f"{path.name} in {', '.join(bundle.precisions)}, SHA-256 {bundle.sha256[:12]}"
    figures = {"path": str(path), "sha256": bundle.sha256, "precisions": list(bundle.precisions)}
    yield Finding("bundle", State.OK, text, figures=figures)
    yield from examine_engines(bundle, gpu=driver.capability, log=log)
