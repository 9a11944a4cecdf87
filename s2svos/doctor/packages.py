"""Python and the installed packages beside what s2svos asks for."""

from __future__ import annotations

import importlib
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

from s2svos.doctor.finding import Finding, State

PACKAGE = "s2svos"
DEVELOPMENT = "dev"

# Distributions with the same files: one is installed over the other, and neither is whole.
SAME_FILES = (
    ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "onnxruntime-directml"),
    (
        *("opencv-python-headless", "opencv-python"),
        *("opencv-contrib-python", "opencv-contrib-python-headless"),
    ),
)

# What everything needs, by the names that are imported; the engines are tested one by one.
CORE = {"av": "av", "cv2": "opencv-python-headless", "numpy": "numpy", "PIL": "pillow"}


def examine_python() -> Iterator[Finding]:
    """The interpreter."""
    wanted = Requirement(f"python{metadata(PACKAGE)['Requires-Python']}").specifier
    here = platform.python_version()
    text = f"{platform.python_implementation()} {here} on {platform.platform()}"
    figures = {"version": here, "executable": sys.executable}
    if wanted.contains(here, prereleases=True):
        yield Finding("Python", State.OK, text, figures=figures)
    else:
        remedy = f"Install Python {wanted} and s2svos in it."
        yield Finding("Python", State.PROBLEM, f"{text}; s2svos needs {wanted}", remedy, figures)


def examine_packages() -> Iterator[Finding]:
    """What s2svos itself needs, its extras, and what gets in each other's way."""
    by_extra: dict[str, list[Requirement]] = {}
    for line in requires(PACKAGE) or ():
        requirement = Requirement(line)
        extra = _extra(requirement)
        if not requirement.marker or requirement.marker.evaluate({"extra": extra}):
            by_extra.setdefault(extra, []).append(requirement)
    for requirement in by_extra.pop("", ()):
        yield _needed(requirement)
    by_extra.pop(DEVELOPMENT, None)
    for extra, requirements in by_extra.items():
        yield _wished(extra, requirements)
    for family in SAME_FILES:
        yield from _conflict(family)


def examine_imports() -> Iterator[Finding]:
    """The packages without which nothing works and which cannot be imported."""
    for module, distribution in CORE.items():
        try:
            importlib.import_module(module)
        except Exception as error:  # a broken package may raise anything
            remedy = f"pip install --force-reinstall {distribution}"
            if "libGL" in str(error):
                # opencv-python wants the libraries of a desktop, which servers lack.
                remedy = f"pip uninstall -y opencv-python opencv-contrib-python && {remedy}"
            text = f"{module} cannot be imported: {error}"
            yield Finding(distribution, State.PROBLEM, text, remedy)


def _extra(requirement: Requirement) -> str:
    """Name of the extra that a requirement is of, empty for none."""
    return str(requirement.marker or "").partition("extra == ")[2].strip("\"' )")


def _needed(requirement: Requirement) -> Finding:
    name, found = requirement.name, _version(requirement.name)
    if wrong := _too_old(requirement):
        return Finding(
            name, State.PROBLEM, wrong, f'pip install -U "{name}{requirement.specifier}"'
        )
    if found:
        return Finding(name, State.OK, found, figures={"version": found})
    remedy = f'pip install "{name}{requirement.specifier}"'
    if others := _same_files(name):
        remedy = f"pip uninstall -y {' '.join(others)} && {remedy}"
    return Finding(name, State.PROBLEM, "not installed", remedy)


def _wished(extra: str, requirements: list[Requirement]) -> Finding:
    """An extra may be there, there in part, or not there; but not too old."""
    topic, remedy = f"extra {extra}", f'pip install -U "s2svos[{extra}]"'
    names = [requirement.name for requirement in requirements]
    versions = {name: found for name in names if (found := _version(name))}
    old = [wrong for requirement in requirements if (wrong := _too_old(requirement))]
    if old:
        return Finding(topic, State.PROBLEM, "; ".join(old), remedy, versions)
    text = ", ".join(f"{name} {found}" for name, found in versions.items())
    missing = [name for name in names if name not in versions]
    if not missing:
        return Finding(topic, State.OK, text, figures=versions)
    text = f"{text + '; ' if text else ''}not installed: {', '.join(missing)}"
    if taken := [other for name in missing for other in _same_files(name)]:
        remedy = f"Nothing, as long as {' and '.join(taken)} is wanted: they have the same files."
    return Finding(topic, State.INFO, text, remedy, versions)


def _too_old(requirement: Requirement) -> str | None:
    found = _version(requirement.name)
    if found and not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name} {found} is installed, {requirement.specifier} is needed"
    return None


def _same_files(name: str) -> list[str]:
    """Other installed distributions with the files of one."""
    families = (family for family in SAME_FILES if name in family)
    return [one for family in families for one in family if one != name and _version(one)]


def _conflict(family: tuple[str, ...]) -> Iterator[Finding]:
    installed = [name for name in family if _version(name)]
    if len(installed) > 1:
        kept = "s2svos[gpu]" if "onnxruntime-gpu" in installed else family[0]
        yield Finding(
            installed[0],
            State.PROBLEM,
            f"{' and '.join(installed)} have the same files and are installed over each other",
            f'pip uninstall -y {" ".join(installed)} && pip install "{kept}"',
            {"installed": installed},
        )


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None
