"""How many engines an export has in memory at the same time."""

from __future__ import annotations

from s2svos_engines.cpu import cpu_count

MOST = 8
# An export of paper, whose step graph has 204 MB, took 6.3 GB where two tried it, 7.7 where two
# followed a clip side by side, and 5.8 with one at a time.
MOST_BYTES = 256 * 2**20


def engines_at_once(size: int) -> tuple[int, int]:
    """Return how many engines to have at the same time, and threads of each: they share the cores.

    Args:
        size: bytes of the graphs that each has loaded.
    """
    cores = cpu_count()
    engines = max(1, min(cores, MOST, MOST_BYTES // size))
    return engines, cores // engines
