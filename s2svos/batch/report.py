"""What came of the jobs, as a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from s2svos.batch.work import Outcome
from s2svos_engines.files import disk_errors, write_atomically


def write_table(path: Path, outcomes: Sequence[Outcome]) -> None:
    """Write ``batch.csv``: a row a job.

    Raises:
        UserError: it cannot be written.
    """
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["job", "state", "frames", "seconds", "frames_per_second", "error"])
    for one in outcomes:
        rate = one.frames / one.seconds if one.state == "done" and one.seconds else None
        writer.writerow(
            [one.name, one.state, one.frames, f"{one.seconds:.2f}",
             "" if rate is None else f"{rate:.2f}", one.error]
        )  # fmt: skip
    with disk_errors(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.getvalue().encode())
