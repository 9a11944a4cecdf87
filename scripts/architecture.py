"""The imports of the packages, module by module and room by room; draws docs/architecture.svg.

python scripts/architecture.py
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
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
PICTURE = ROOT / "docs" / "architecture.svg"


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


# The picture: rooms, which are a package's folders and files, on floors; whoever imports is above.

Graph = Mapping[str, frozenset[str]]
"""For each room, ``package.name``, those that it imports."""

COLOURS = {"s2svos": "#dbe9f6", "s2svos_export": "#fdebd0", "s2svos_engines": "#dcefdc"}
PASSED_OVER = {"__main__", "infer", "batching", "geometry", ""}  # names kept for older programs
ROW, HEIGHT, CHARACTER, GAP, HEAD, LANE_GAP = 62, 28, 7.6, 16, 56, 48  # pixels


def rooms() -> Graph:
    """Return the rooms and what each imports, without what one of those imports already.

    Between packages, too, though the picture leaves these out.
    """
    every: dict[str, set[str]] = defaultdict(set)
    for one in imports_of_packages():
        importer, imported = _room(one.importer), _room(one.imported)
        if importer and imported and importer != imported:
            every[importer].add(imported)
            every.setdefault(imported, set())
    reached: dict[str, set[str]] = {}

    def below(name: str) -> set[str]:
        if name not in reached:
            reached[name] = set().union(*({one} | below(one) for one in every[name]))
        return reached[name]

    return {
        name: frozenset(
            one for one in imported if not any(one in below(other) for other in imported - {one})
        )
        for name, imported in sorted(every.items())
    }


def floors(graph: Graph) -> list[list[str]]:
    """Return the rooms of each floor from the top: one below the lowest that imports them."""
    depths: dict[str, int] = {}

    def depth(name: str) -> int:
        if name not in depths:
            above = [one for one, below in graph.items() if name in below]
            depths[name] = 1 + max(map(depth, above), default=-1)
        return depths[name]

    result: list[list[str]] = [[] for _ in range(1 + max(map(depth, graph)))]
    for name in graph:
        result[depth(name)].append(name)
    return result


def draw(graph: Graph) -> str:
    """Return the picture as SVG: a lane a package, in which only its own imports are arrows."""
    lanes = [
        _lane(package, {n: b for n, b in graph.items() if n.startswith(f"{package}.")})
        for package in PACKAGES
    ]
    height = max(lane.height for lane in lanes)
    parts, left = [], GAP
    for lane in lanes:
        parts.append(f'<g transform="translate({left:.0f},0)">')
        parts += [lane.frame(height), *lane.parts, "</g>"]
        left += lane.width + LANE_GAP
        if lane is not lanes[-1]:
            x, y = left - LANE_GAP, HEAD / 2
            parts.append(
                f'<path d="M{x + 4:.0f},{y:.0f} H{x + LANE_GAP - 12:.0f} m-8,-6 l8,6 l-8,6" '
                'fill="none" stroke="#445" stroke-width="2"/>'
            )
    width = left - LANE_GAP + GAP
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height + GAP}" '
            'font-family="Helvetica, Arial, sans-serif" font-size="13">',
            f'<rect width="{width:.0f}" height="{height + GAP}" fill="white"/>',
            *parts,
            "</svg>\n",
        ]
    )


@dataclass(frozen=True)
class _Lane:
    package: str
    width: float
    height: int
    parts: Sequence[str]

    def frame(self, height: int) -> str:
        """Return the lane's background with its name."""
        return (
            f'<rect y="{GAP}" width="{self.width:.0f}" height="{height - GAP}" rx="6" '
            f'fill="{COLOURS[self.package]}" fill-opacity="0.35"/>'
            f'<text x="{self.width / 2:.0f}" y="{HEAD - 18}" font-size="15" font-weight="bold" '
            f'text-anchor="middle">{self.package}</text>'
        )


def _lane(package: str, graph: Graph) -> _Lane:
    own = {name: frozenset(one for one in below if one in graph) for name, below in graph.items()}
    levels = floors(own)
    boxes = [[CHARACTER * len(_label(name)) + 18 for name in names] for names in levels]
    width = max(sum(widths) + GAP * (len(widths) + 1) for widths in boxes)
    places: dict[str, tuple[float, float, float]] = {}  # left, top and width of each box
    for floor, names in enumerate(levels):
        # Under those that import them.
        ordered = sorted(names, key=lambda name: (_middle(name, own, places), name))
        sizes = [CHARACTER * len(_label(name)) + 18 for name in ordered]
        left = (width - sum(sizes) - GAP * (len(sizes) - 1)) / 2
        for name, size in zip(ordered, sizes, strict=True):
            places[name] = (left, HEAD + ROW * floor, size)
            left += size + GAP
    arrows = [
        _arrow(places[name], places[one]) for name, below in own.items() for one in sorted(below)
    ]
    drawn = [_box(name, *place) for name, place in places.items()]
    return _Lane(package, width, HEAD + ROW * len(levels), [*arrows, *drawn])


def _room(module: str) -> str:
    package, _, rest = module.partition(".")
    name = rest.partition(".")[0]
    return "" if name in PASSED_OVER else f"{package}.{name}"


def _label(name: str) -> str:
    return name.partition(".")[2]


def _middle(name: str, graph: Graph, places: Mapping[str, tuple[float, float, float]]) -> float:
    """Return the mean of the columns of those that import a room."""
    above = [places[one][0] + places[one][2] / 2 for one in places if name in graph[one]]
    return sum(above) / len(above) if above else 0.0


def _arrow(start: tuple[float, float, float], end: tuple[float, float, float]) -> str:
    x, y = start[0] + start[2] / 2, start[1] + HEIGHT
    u, v = end[0] + end[2] / 2, end[1]
    bend = min(40, (v - y) / 2)
    return (
        f'<path d="M{x:.0f},{y:.0f} C{x:.0f},{y + bend:.0f} {u:.0f},{v - bend:.0f} '
        f'{u:.0f},{v:.0f}" fill="none" stroke="#8899aa"/>'
    )


def _box(name: str, left: float, top: float, width: float) -> str:
    colour = COLOURS[name.partition(".")[0]]
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{HEIGHT}" rx="4" '
        f'fill="{colour}" stroke="#667"/>'
        f'<text x="{left + width / 2:.0f}" y="{top + 19:.0f}" text-anchor="middle">'
        f"{_label(name)}</text>"
    )


if __name__ == "__main__":
    PICTURE.write_text(draw(rooms()), encoding="utf-8")
