"""Groups of variants that take turns.

All at once do not fit into memory: 40 variants of a large network held 20 GB. A group's are
loaded together, which is what their ratios need, and let go of after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.latency.variants import BARE, OURS, PEER, Variant
from s2svos_engines.bundle import Bundle
from s2svos_engines.registry import GPU_ENGINES, SLOW_ENGINES, gpu_count, usable_engines

MOST_ON_CPU = 8  # streams


@dataclass(frozen=True)
class Group:
    """Variants that take turns, the most important first."""

    name: str
    variants: tuple[Variant, ...]


def groups(
    bundle: Bundle, objects: tuple[int, ...], streams: tuple[int, ...], *, everything: bool
) -> list[Group]:
    """All that this machine has, the most important first: what time does not allow is last.

    Args:
        bundle: whose precisions are measured.
        objects, streams: counts, rising from 1.
        everything: with peers at every object count, and compiled ones.
    """
    # The engine "torch" runs what the peer "torch eager" runs.
    engines = [engine for engine in usable_engines() if engine not in SLOW_ENGINES]
    several = [count for count in objects if count > 1]
    found = [
        Group(f"1 object, {precision}", tuple(_one_object(engines, precision, everything)))
        for precision in bundle.precisions
    ]
    for precision in bundle.precisions:
        for engine in engines:
            found += _objects(engine, precision, several[-1:], everything)
            found += _streams(engine, precision, streams)
    for precision in bundle.precisions:
        for engine in engines:
            found += _objects(engine, precision, several[:-1], everything)
    return found


def host_peers(engine: str, precision: str) -> Iterator[str]:
    """Yield the loops that a user would write with the library of an engine."""
    if engine == "openvino":
        yield "openvino infer"
        return
    yield "onnxruntime run"
    if precision == "fp32":
        yield "onnxruntime bind"


def _one_object(engines: list[str], precision: str, everything: bool) -> Iterator[Variant]:
    for engine in engines:
        yield Variant(engine, OURS, precision)
        if engine not in GPU_ENGINES:  # their step is the bare call between two transfers
            yield Variant(f"bare {engine}", BARE, precision)
    # Each once, of however many engines it is a peer.
    for peer in dict.fromkeys(
        peer for engine in ("openvino", "onnxruntime") for peer in host_peers(engine, precision)
    ):
        yield Variant(peer, PEER, precision)
    # In every group, so that every precision has its ratio to it.
    yield Variant("torch eager", PEER, "fp32")
    if gpu_count():
        yield Variant("torch eager", PEER, "fp16")
    if precision == "fp32":
        yield Variant("openvino infer", PEER, "bf16")
        if everything:
            yield Variant("torch compile", PEER, "fp32")


def _objects(engine: str, precision: str, counts: list[int], everything: bool) -> Iterator[Group]:
    for count in counts:
        peers = host_peers(engine, precision) if everything else ()
        members = [Variant(engine, OURS, precision, number) for number in (count, 1)]
        members += [Variant(peer, PEER, precision, count) for peer in peers]
        yield Group(f"{count} objects, {engine} {precision}", tuple(members))


def _streams(engine: str, precision: str, streams: tuple[int, ...]) -> Iterator[Group]:
    for count in streams:
        if count == 1 or (count > MOST_ON_CPU and engine not in GPU_ENGINES):
            continue
        names = (f"batched {engine}", f"in turn {engine}", engine)
        members = [Variant(name, OURS, precision, 1, count) for name in names]
        one = Variant(engine, OURS, precision)
        yield Group(f"{count} streams, {engine} {precision}", (*members[:2], one, members[2]))
