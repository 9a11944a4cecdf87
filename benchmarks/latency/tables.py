"""Tables in Markdown, rendered from results."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.latency.groups import host_peers
from benchmarks.latency.records import Heat, Row, by_group, find, label, once
from benchmarks.latency.statistics import ratio
from benchmarks.latency.variants import OURS, PEER
from s2svos_engines.errors import UserError

BEGIN, END = "<!-- latency: begin -->", "<!-- latency: end -->"


def document(heats: Sequence[Heat], pictures: Sequence[Path]) -> str:
    """All tables of all heats, with the plots between."""
    parts = ["# Latency\n"]
    for heat in heats:
        parts += [_title(heat), _latency(heat), _ratios(heat), _service(heat), _stages(heat)]
        parts += [_left_out(heat)]
    if pictures:
        parts.append("Whoever was in several groups is drawn as in the first; ratios are above.\n")
    parts += [f"![{path.stem}]({path.name})\n" for path in pictures]
    return "\n".join(part for part in parts if part)


def into_readme(heats: Sequence[Heat], readme: Path) -> None:
    """Puts a short table of medians between the marks of a file.

    Raises:
        UserError: the file has no marks.
    """
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise UserError(f"{readme} has no {BEGIN} and {END}", "put both where the table should be")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    cells: dict[tuple[str, str, int], dict[str, str]] = {}
    for heat in heats:
        for row in once(heat):
            kind, objects = row["kind"], row["objects"]
            if row["streams"] > 1 or (kind, objects) not in ((OURS, 1), (OURS, 10), (PEER, 1)):
                continue
            line = cells.setdefault((heat["preset"], row["contestant"], objects), {})
            line[row["precision"]] = f"{_ms(row, 'p50')} ({_iou(row)})"
    precisions = list(dict.fromkeys(name for line in cells.values() for name in line))
    rows = [
        [preset, name, str(objects), *(line.get(precision, "") for precision in precisions)]
        for (preset, name, objects), line in cells.items()
    ]
    heading = ["preset", "", "objects", *(f"{precision}, ms (IoU)" for precision in precisions)]
    table = _table(heading, rows)
    where = "; ".join(dict.fromkeys(_machine(heat) for heat in heats))
    readme.write_text(f"{head}{BEGIN}\n{table}\n{where}\n{END}{tail}")


def _title(heat: Heat) -> str:
    height, width = heat["size"]
    return (
        f"## {heat['preset']}, {height}x{width}\n\n{_machine(heat)}; {heat['threads']} threads; "
        f"{heat['seconds']:.0f} s, at most {heat['peak_host_mib'] / 1024:.1f} GiB of memory; "
        f"bundle `{heat['bundle'][:12]}`. IoU is with {heat['reference']}; PyTorch runs "
        f"{heat['torch_network']}. Intervals are of 95 %.\n"
    )


def _machine(heat: Heat) -> str:
    place, gpu = heat["environment"], heat["gpu_before"]
    words = f"{place['time'][:10]}, {place['cpu']}, {place['cores']} cores, load {place['load']}"
    return f"{words}, {gpu['name']}" if gpu else words


def _latency(heat: Heat) -> str:
    parts = ["### Step\n"]
    for name, rows in by_group(heat).items():
        parts += [f"{name}; {heat['groups'][name]['turns']} turns:\n", _steps(rows)]
    ceilings = ", ".join(
        f"{name} {value / 1e9:.4g} {'GB' if name.endswith('bytes') else 'GOP'}/s"
        for name, value in heat["ceilings"].items()
    )
    note = f"Ceilings of this run: {ceilings}. "
    note += "A percentile with too few steps beyond it is left out.\n"
    return "\n".join([*parts, note])


def _steps(rows: Sequence[Row]) -> str:
    lines = [
        [
            *(label(row), _interval(row)),
            *(_ms(row, name) for name in ("p90", "p99", "p99.9")),
            *(f"{100 * row['misses'][rate]:.0f} %" for rate in ("30", "60")),
            f"{row['frames_per_second']:.1f}",
            f"{100 * row['roofline']['achieved']:.0f} %" if row["roofline"] else "-",
            *(_iou(row), str(row["steps"]) + ("" if row["steady"] else " (not steady)")),
        ]
        for row in rows
    ]
    heading = ["", "median ms", "p90", "p99", "p99.9", "late at 30 fps", "late at 60 fps"]
    heading += ["frames/s", "of the roofline", "IoU", "steps"]
    return _table(heading, lines)


def _ratios(heat: Heat) -> str:
    lines = []
    for rows in by_group(heat).values():
        for name, above, below in _pairs(rows):
            value, low, high = ratio(above["turns_ms"], below["turns_ms"])
            ious = f"{_iou(above)} / {_iou(below)}"
            lines.append([name, f"{value:.3f}", f"{low:.3f} to {high:.3f}", ious])
    heading = ["medians of those that took turns", "ratio", "interval", "IoU"]
    return f"### Ratios\n\n{_table(heading, lines)}"


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """What the rows of a group are to be divided by, with the ratio's name."""
    for ours in rows:
        if ours["kind"] != OURS:
            continue
        names = ("contestant", "precision", "objects", "streams")
        engine, precision, objects, streams = (ours[name] for name in names)
        one = find(rows, engine, precision)
        if streams > 1:
            turn = find(rows, f"in turn {engine.split()[-1]}", precision, objects, streams)
            if turn and turn is not ours:
                how = engine if engine.startswith("batched") else f"a thread each, {engine}"
                yield f"{how} {precision}: {streams} streams / in turn", ours, turn
            continue
        if one and objects > 1:
            yield f"{engine} {precision}: {objects} objects / 1", ours, one
        if bare := find(rows, f"bare {engine}", precision, objects):
            yield f"{engine} {precision}: step / bare call", ours, bare
        many = f", {objects} objects" if objects > 1 else ""
        for peer in host_peers(engine, precision):
            theirs = find(rows, peer, precision, objects)
            if theirs and theirs["on_gpu"] == ours["on_gpu"]:
                yield f"state by {peer} / {engine} {precision}{many}", theirs, ours
        for peer, half in itertools.product(("torch eager", "torch compile"), ("fp32", "fp16")):
            if theirs := find(rows, peer, half, objects):
                yield f"{peer} {half} / {engine} {precision}{many}", theirs, ours


def _service(heat: Heat) -> str:
    rows = []
    for row in heat["rows"]:
        if alone := row["alone"]:
            device = alone["device_mib"]
            rows.append(
                [
                    label(row),
                    *(f"{alone[key]:.2f}" for key in ("load_seconds", "first_mask_seconds")),
                    f"{alone['cold_start_seconds']:.2f}",
                    f"{alone['host_mib']:.0f}",
                    "-" if device is None else f"{device:.0f}",
                    _iou(row),
                ]
            )
    heading = ["in a process of its own", "loaded s", "first mask s", "cold start s"]
    heading += ["peak host MiB", "device MiB", "IoU"]
    return f"### Start and memory\n\n{_table(heading, rows)}" if rows else ""


def _stages(heat: Heat) -> str:
    found = [row for row in heat["rows"] if row["stages"]]
    if not found:
        return ""
    names = list(found[0]["stages"])
    rows = [
        [label(row), *(f"{row['stages'][name]:.2f}" for name in names), _iou(row)] for row in found
    ]
    return f"### End to end, ms a frame\n\n{_table(['', *names, 'IoU'], rows)}"


def _left_out(heat: Heat) -> str:
    measured = {label(row) for row in heat["rows"]}
    reasons: dict[str, dict[str, None]] = {}  # names in their order, each once
    for row in heat["skipped"]:
        if (name := label(row)) not in measured:
            reasons.setdefault(row["why"], {})[name] = None
    lines = [f"- {why}: {'; '.join(names)}" for why, names in reasons.items()]
    return "### Not measured\n\n" + "\n".join(lines) + "\n" if lines else ""


def _ms(row: Row, name: str) -> str:
    value = row["percentiles"][name]
    return f"{value['ms']:.1f}" if value else "-"


def _interval(row: Row) -> str:
    value = row["percentiles"]["p50"]
    return f"{value['ms']:.1f} ({value['low']:.1f} to {value['high']:.1f})" if value else "-"


def _iou(row: Row) -> str:
    return f"{row['iou']['mean']:.4f}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heading, ["---", *["---:"] * (len(heading) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"
