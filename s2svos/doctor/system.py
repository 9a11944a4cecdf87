"""Python, the packages that s2svos requires, the processor, and the video encoder."""

from __future__ import annotations

import importlib
import os
import platform
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires, version

from packaging.requirements import Requirement

from s2svos.doctor.finding import Finding, State
from s2svos.environment import environment
from s2svos_engines.cpu import cpu_count, cpu_flags, cpu_quota, usable_cpus

# By the flags of x86 and Arm in /proc/cpuinfo.
FEATURES = {
    "AVX2": {"avx2"},
    "AVX-512": {"avx512f"},
    "VNNI for int8": {"avx512_vnni", "avx_vnni"},
    "AMX for int8": {"amx_int8"},
    "bf16": {"avx512_bf16", "amx_bf16", "bf16"},
    "dot product for int8": {"asimddp", "i8mm"},
}


def examine_processor() -> Iterator[Finding]:
    """Examine its model, and the instructions that engines make use of."""
    model, flags = environment()["cpu"], cpu_flags()
    has = [name for name, any_of in FEATURES.items() if flags & any_of]
    lacks = ", ".join(name for name in FEATURES if name not in has)
    text = f"{model}, {platform.machine()}"
    if flags:
        text = f"{text}: {', '.join(has) or 'nothing special'}; no {lacks}"
    yield Finding("processor", State.INFO, text, figures={"model": model, "features": has})


def examine_cores() -> Iterator[Finding]:
    """Count the cores, and those that this process may use."""
    there, usable, quota = os.cpu_count() or 1, usable_cpus(), cpu_quota()
    figures = {"cores": there, "usable": usable, "quota": quota}
    text = f"{there} in the machine, {usable} for this process"
    if quota is None or quota >= usable:
        yield Finding("cores", State.OK, text, figures=figures)
        return
    text = f"{text}, but the container may use the time of {quota:g}: more threads have to wait"
    remedy = f"Say --threads {cpu_count()} to s2svos infer."
    yield Finding("cores", State.INFO, text, remedy, figures)


def examine_encoder() -> Iterator[Finding]:
    """Examine whether overlay.mp4 can be written."""
    try:
        from av import codecs_available
    except ImportError:
        return  # a finding of the packages
    if "libx264" in codecs_available:
        yield Finding("H.264", State.OK, "PyAV has the encoder libx264")
    else:
        yield Finding(
            "H.264",
            State.PROBLEM,
            "PyAV was built without the encoder libx264, so that overlay.mp4 cannot be written",
            "pip install --force-reinstall --only-binary av av",
        )


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
    """Examine the interpreter."""
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
    """Examine what s2svos itself needs, its extras, and packages that exclude each other."""
    by_extra: dict[str, list[Requirement]] = {}
    for line in requires(PACKAGE) or ():
        requirement = Requirement(line)
        extra = _extra(requirement)
        if not requirement.marker or requirement.marker.evaluate({"extra": extra}):
            by_extra.setdefault(extra, []).append(requirement)
    for requirement in by_extra.pop("", ()):
        yield _required(requirement)
    by_extra.pop(DEVELOPMENT, None)
    for extra, requirements in by_extra.items():
        yield _optional(extra, requirements)
    for family in SAME_FILES:
        yield from _conflict(family)


def examine_imports() -> Iterator[Finding]:
    """Find the packages without which nothing works and which cannot be imported."""
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
    """Return the extra that a requirement is of, empty for none."""
    return str(requirement.marker or "").partition("extra == ")[2].strip("\"' )")


def _required(requirement: Requirement) -> Finding:
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


def _optional(extra: str, requirements: list[Requirement]) -> Finding:
    """Examine an extra: it may be there, in part, or not; but not too old."""
    topic, remedy = f"extra {extra}", f'pip install "s2svos[{extra}]"'
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
    """Return other installed distributions with the files of one."""
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
