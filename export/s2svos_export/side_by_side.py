"""How many engines an export has in memory at the same time."""

from __future__ import annotations

from s2svos_engines.cpu import cpu_count

MOST = 8
# Of two that tried step graphs of 204 MB an export of paper took 6.3 GB, of one at a time 4.8.
MOST_BYTES = 256 * 2**20


def engines_at_once(size: int) -> tuple[int, int]:
    """Return how many engines to have at the same time, and threads of each: they share the cores.

    Args:
        size: bytes of the graphs that each has loaded.
    """
    cores = cpu_count()
    engines = max(1, min(cores, MOST, MOST_BYTES // size))
    return engines, cores // engines
