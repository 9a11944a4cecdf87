"""The imports of the packages, module by module and room by room."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "s2svos": ROOT / "s2svos",
    "s2svos_export": ROOT / "export" / "s2svos_export",
    "s2svos_engines": ROOT / "engines" / "s2svos_engines",
}
"""The folder of each package."""


class When(StrEnum):
    """When an import takes place."""

    LOAD = "load"
    """As the importing module is loaded."""
    CALL = "call"
    """As a function is called that holds it."""
    TYPING = "typing"
    """For type checkers alone."""


@dataclass(frozen=True, order=True)
class Import:
    """One module that imports another.

    Args:
        importer: full name of the module that imports.
        imported: full name of the module that is imported.
        when: when it does.
    """

    importer: str
    imported: str
    when: When


def modules() -> dict[str, Path]:
    """Return the file of each module of the packages by its full name."""
    return {
        _name(package, folder, path): path
        for package, folder in PACKAGES.items()
        for path in sorted(folder.rglob("*.py"))
    }


def imports_of_packages() -> list[Import]:
    """Return the imports among the modules of the packages, sorted."""
    known = modules()
    return sorted(
        {
            Import(importer, imported, when)
            for importer, path in known.items()
            for name, when in imported_names(path)
            if (imported := _longest(name, known)) and imported != importer
        }
    )


def imported_names(path: Path) -> Iterator[tuple[str, When]]:
    """Yield what a file imports, ``package.module`` or ``package.module.name``, and when."""
    yield from _names(ast.parse(path.read_text(encoding="utf-8")).body, When.LOAD, path)


def _names(nodes: Sequence[ast.AST], when: When, path: Path) -> Iterator[tuple[str, When]]:
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.level or not node.module:
                raise ValueError(f"{path}:{node.lineno}: a relative import")
            yield from ((f"{node.module}.{alias.name}", when) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _names(node.body, When.TYPING, path)
            yield from _names(node.orelse, when, path)
        else:
            function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            inner = When.CALL if function and when is When.LOAD else when
            yield from _names(list(ast.iter_child_nodes(node)), inner, path)


def _name(package: str, folder: Path, path: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))


def _longest(name: str, known: dict[str, Path]) -> str:
    """Return the module that ``name`` is, or is a name of; "" if it is none of ours."""
    while name and name not in known:
        name = name.rpartition(".")[0]
    return name
