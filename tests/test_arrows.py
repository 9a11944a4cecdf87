"""Imports run one way, and the tests mirror the tree.

Every import among the packages counts: also one within a function, which the reader of both files
meets all the same, and one for type checkers alone, since a type is knowledge of the other file.
Names in strings do not count: :mod:`s2svos_engines.registry` finds an engine's module by its name,
so that a new engine is a new file and a line there. What a package loads from other distributions
is what it loads as it is imported.
"""

from __future__ import annotations

import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from scripts.architecture import (
    PACKAGES,
    PICTURE,
    ROOT,
    Import,
    When,
    draw,
    imported_names,
    imports_of_packages,
    modules,
    rooms,
)

Floors = Sequence[tuple[str, ...]]

ROOMS: Floors = (
    ("__main__",),
    ("cli",),
    ("api", "commands"),
    ("batch",),
    ("about", "doctor", "exporting", "inference", "profile", "studio", "triton_client"),
    ("saving", "training"),
    ("evaluation",),
    ("data",),
    ("video",),
    ("network", "pipeline"),
    ("environment", "extras", "sample", "workers"),
    ("interrupt", "standard_streams", "locks"),
    ("",),
    ("shipped",),
)
"""Rooms of ``s2svos/``, its folders and files, from the top down; "" is the package itself.

A room imports from floors below its own alone.
"""

ENGINE_ROOMS: Floors = (
    ("",),
    ("batching", "geometry"),
    ("dynamic_batcher",),
    ("tracker",),
    ("window_state",),
    ("tensorrt",),
    ("cuda",),
    ("backends",),
    ("batch_runner", "closed_loop", "confidence", "onnx_torch", "registry", "window"),
    ("engine",),
    ("bundle", "letterbox", "profile", "states"),
    ("manifest",),
    ("arrays", "contract", "files", "graph_check"),
    ("cpu", "errors"),
)
"""The same of ``engines/``, whose "" names everything that is public, for type checkers."""

IMPORTS = imports_of_packages()


def room(module: str) -> str:
    """The name of a module's folder or file within its package."""
    return [*module.split("."), ""][1]


def package(module: str) -> str:
    return module.partition(".")[0]


def up(package_name: str, floors: Floors) -> list[str]:
    """The imports within a package that do not run down."""
    height = {name: -floor for floor, names in enumerate(floors) for name in names}
    return [
        f"{one.importer} -> {one.imported}"
        for one in IMPORTS
        if package(one.importer) == package(one.imported) == package_name
        and room(one.importer) != room(one.imported)
        and height[room(one.importer)] <= height[room(one.imported)]
    ]


@pytest.mark.parametrize(
    ("package_name", "floors"), [("s2svos", ROOMS), ("s2svos_engines", ENGINE_ROOMS)]
)
def test_rooms_import_from_the_floors_below(package_name: str, floors: Floors) -> None:
    found = {room(module) for module in modules() if package(module) == package_name}
    assert found <= {name for names in floors for name in names}, "a new room needs a floor"
    assert not up(package_name, floors)


def test_packages_import_one_way() -> None:
    below = {
        "s2svos": {"s2svos_export", "s2svos_engines"},
        "s2svos_export": {"s2svos_engines"},
        "s2svos_engines": set[str](),
    }
    pairs = {(package(one.importer), package(one.imported)) for one in IMPORTS}
    for importer, imported in pairs:
        assert importer == imported or imported in below[importer]


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = defaultdict(set)
    for one in IMPORTS:
        graph[one.importer].add(one.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_no_package_imports_what_is_beside_it() -> None:
    for module, path in modules().items():
        tops = {name.partition(".")[0] for name, _ in imported_names(path)}
        assert not tops & {"benchmarks", "scripts", "tests"}, module


# Other distributions

LIGHT = {"numpy", "cv2", "msgspec", "s2svos_engines", *sys.stdlib_module_names}
OWN = {"backends", "cuda", "tensorrt", "onnx_torch"}
"""Folders of the engines, each of which may load its own library."""


def test_engines_load_few_other_packages() -> None:
    for module, path in modules().items():
        if package(module) == "s2svos_engines" and room(module) not in OWN:
            loaded = {n.partition(".")[0] for n, when in imported_names(path) if when == When.LOAD}
            assert loaded <= LIGHT, module


@pytest.mark.parametrize(
    ("entry", "numpy"),
    [
        ("s2svos_engines", False),
        ("s2svos_engines.registry", False),
        ("s2svos_engines.files", False),
        ("s2svos_engines.dynamic_batcher", True),
        ("s2svos_engines.closed_loop", True),
    ],
)
def test_what_an_entry_of_the_engines_loads(entry: str, numpy: bool) -> None:
    code = f"import sys, {entry}\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.split())
    assert not loaded & {"s2svos", "s2svos_export", "typer", "rich", "av", "PIL"}
    assert not loaded & {"torch", "onnx", "onnxruntime", "openvino", "tensorrt", "cuda"}
    assert ({"numpy", "cv2"} <= loaded) is numpy
    assert numpy or not loaded & {"numpy", "cv2"}


# Tests

FOLDERS = {
    "engines": PACKAGES["s2svos_engines"],
    "export": PACKAGES["s2svos_export"],
    "s2svos": PACKAGES["s2svos"],
    "benchmarks": ROOT / "benchmarks",
}
"""The folder that each folder of ``tests/`` is of."""


def test_tests_mirror_the_tree() -> None:
    tests = Path(__file__).parent
    for path in tests.rglob("test_*.py"):
        top, *parts = path.parent.relative_to(tests).parts or ("",)
        if top:  # those beside this file are of the whole house
            assert Path(FOLDERS[top], *parts, "__init__.py").exists() or top == "benchmarks", path


@pytest.mark.parametrize("top", ["engines", "s2svos"])
def test_every_room_has_its_tests(top: str) -> None:
    for path in FOLDERS[top].glob("*/__init__.py"):
        found = list((Path(__file__).parent / top / path.parent.name).glob("test_*.py"))
        assert found, f"{path.parent} has no tests"


# The reader of imports itself


def test_imports_of_every_kind_are_seen(tmp_path: Path) -> None:
    path = tmp_path / "x.py"
    path.write_text(
        "import a.b, c\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    from d import e\nelse:\n    import f\n"
        "try:\n    import g\nexcept ImportError:\n    import h\n"
        "class K:\n    import i\n    def m(self):\n        from j import k, l\n"
        "def n():\n    if True:\n        with x:\n            import o\n"
    )
    found: dict[When, list[str]] = defaultdict(list)
    for name, when in imported_names(path):
        found[when].append(name)
    assert sorted(found[When.LOAD]) == ["a.b", "c", "f", "g", "h", "i", "typing.TYPE_CHECKING"]
    assert sorted(found[When.CALL]) == ["j.k", "j.l", "o"]
    assert found[When.TYPING] == ["d.e"]
    path.write_text("from . import a\n")
    with pytest.raises(ValueError, match="relative"):
        list(imported_names(path))


def test_a_name_is_found_in_its_module() -> None:
    found = {one for one in IMPORTS if one.importer == "s2svos_engines.tracker"}
    assert Import("s2svos_engines.tracker", "s2svos_engines.registry", When.LOAD) in found
    assert Import("s2svos", "s2svos_engines.tracker", When.CALL) in set(IMPORTS)


def test_the_picture_is_of_these_imports() -> None:
    assert PICTURE.read_text(encoding="utf-8") == draw(rooms()), "python scripts/architecture.py"
