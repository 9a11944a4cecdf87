"""Tables in Markdown, rendered from results."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from benchmarks.latency.groups import host_peers
from benchmarks.latency.records import Row, SuiteResult, by_group, find, label, once
from benchmarks.latency.statistics import ratio
from benchmarks.latency.variants import OURS, PEER
from s2svos_engines.errors import UserError

BEGIN, END = "<!-- latency: begin -->", "<!-- latency: end -->"


def document(results: Sequence[SuiteResult], pictures: Sequence[Path]) -> str:
    """Return all tables of all results, with the plots between."""
    parts = ["# Latency\n"]
    for result in results:
        parts += [
            _title(result),
            _latency(result),
            _ratios(result),
            _service(result),
            _stages(result),
        ]
        parts += [_left_out(result)]
    if pictures:
        parts.append("Whoever was in several groups is drawn as in the first; ratios are above.\n")
    parts += [f"![{path.stem}]({path.name})\n" for path in pictures]
    return "\n".join(part for part in parts if part)


def into_readme(results: Sequence[SuiteResult], readme: Path) -> None:
    """Put a short table of medians between the marks of a file.

    Raises:
        UserError: the file has no marks.
    """
    text = readme.read_text()
    if BEGIN not in text or END not in text:
        raise UserError(f"{readme} has no {BEGIN} and {END}", "put both where the table should be")
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    cells: dict[tuple[str, str, int], dict[str, str]] = {}
    for result in results:
        for row in once(result):
            kind, objects = row["kind"], row["objects"]
            if row["streams"] > 1 or (kind, objects) not in ((OURS, 1), (OURS, 10), (PEER, 1)):
                continue
            line = cells.setdefault((result["preset"], row["contestant"], objects), {})
            line[row["precision"]] = f"{_ms(row, 'p50')} ({_iou(row)})"
    precisions = list(dict.fromkeys(name for line in cells.values() for name in line))
    rows = [
        [preset, name, str(objects), *(line.get(precision, "") for precision in precisions)]
        for (preset, name, objects), line in cells.items()
    ]
    heading = ["preset", "", "objects", *(f"{precision}, ms (IoU)" for precision in precisions)]
    table = _table(heading, rows)
    where = "; ".join(dict.fromkeys(_machine(result) for result in results))
    readme.write_text(f"{head}{BEGIN}\n{table}\n{where}\n{END}{tail}")


def _title(result: SuiteResult) -> str:
    height, width = result["size"]
    return (
        f"## {result['preset']}, {height}x{width}\n\n{_machine(result)}; "
        f"{result['threads']} threads; "
        f"{result['seconds']:.0f} s, at most {result['peak_host_mib'] / 1024:.1f} GiB of memory; "
        f"bundle `{result['bundle'][:12]}`. IoU is with {result['reference']}; PyTorch runs "
        f"{result['torch_network']}. Intervals are of 95 %.\n"
    )


def _machine(result: SuiteResult) -> str:
    place, gpu = result["environment"], result["gpu_before"]
    words = f"{place['time'][:10]}, {place['cpu']}, {place['cores']} cores, load {place['load']}"
    return f"{words}, {gpu['name']}" if gpu else words


def _latency(result: SuiteResult) -> str:
    parts = ["### Step\n"]
    for name, rows in by_group(result).items():
        parts += [f"{name}; {result['groups'][name]['turns']} turns:\n", _steps(rows)]
    ceilings = ", ".join(
        f"{name} {value / 1e9:.4g} {'GB' if name.endswith('bytes') else 'GOP'}/s"
        for name, value in result["ceilings"].items()
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


def _ratios(result: SuiteResult) -> str:
    lines = []
    for rows in by_group(result).values():
        for name, above, below in _pairs(rows):
            value, low, high = ratio(above["turns_ms"], below["turns_ms"])
            ious = f"{_iou(above)} / {_iou(below)}"
            lines.append([name, f"{value:.3f}", f"{low:.3f} to {high:.3f}", ious])
    heading = ["medians of those that took turns", "ratio", "interval", "IoU"]
    return f"### Ratios\n\n{_table(heading, lines)}"


def _pairs(rows: Sequence[Row]) -> Iterator[tuple[str, Row, Row]]:
    """Yield the ratios of a group's rows, with their names."""
    for ours in rows:
        if ours["kind"] != OURS:
            continue
        names = ("contestant", "precision", "objects", "streams")
        engine, precision, objects, streams = (ours[name] for name in names)
        one = find(rows, engine, precision)
        if streams > 1:
            in_turn = find(rows, f"in turn {engine.split()[-1]}", precision, objects, streams)
            if in_turn and in_turn is not ours:
                how = engine if engine.startswith("batched") else f"a thread each, {engine}"
                yield f"{how} {precision}: {streams} streams / in turn", ours, in_turn
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


def _service(result: SuiteResult) -> str:
    rows = []
    for row in result["rows"]:
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


def _stages(result: SuiteResult) -> str:
    found = [row for row in result["rows"] if row["stages"]]
    if not found:
        return ""
    names = list(found[0]["stages"])
    rows = [
        [label(row), *(f"{row['stages'][name]:.2f}" for name in names), _iou(row)] for row in found
    ]
    return f"### End to end, ms a frame\n\n{_table(['', *names, 'IoU'], rows)}"


def _left_out(result: SuiteResult) -> str:
    measured = {label(row) for row in result["rows"]}
    reasons: dict[str, dict[str, None]] = {}  # names in their order, each once
    for row in result["skipped"]:
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
