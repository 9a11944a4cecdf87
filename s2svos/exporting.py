"""A network by its file's name: a bundle, or a checkpoint by way of one."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from s2svos.commands.export import export
from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError

DRIFT_FRAMES = 50  # of the export, which is for one run


@dataclass(frozen=True)
class Model:
    """A network that can be run.

    Args:
        path: as it was named.
        sha256: names what was named: the bundle, or the checkpoint's bytes.
        bundle: to run; the same file, or a checkpoint's export.
    """

    path: Path
    sha256: str
    bundle: Bundle


@contextmanager
def open_model(path: Path) -> Iterator[Model]:
    """Opens a bundle, or exports a checkpoint (``.pt``) into one that goes away at the end.

    Raises:
        UserError: it cannot be used, or a checkpoint needs the extra ``train``.
    """
    if path.suffix != ".pt":
        bundle = Bundle.open(path)
        yield Model(path, bundle.sha256, bundle)
        return
    if not path.is_file():
        raise UserError(f"{path} does not exist", "name a checkpoint that s2svos train wrote")
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="s2svos-"))
            out = Path(folder) / f"{path.stem}.s2s"
            export(path, out, drift_frames=DRIFT_FRAMES)
        except OSError as error:
            raise UserError(
                (
                    f"{path} is exported into a temporary folder first, which cannot be written "
                    f"({error.strerror or error})"
                ),
                "make room there, or name another with TMPDIR",
            ) from error
        yield Model(path, sha256, Bundle.open(out))
