"""The networks that ship with the package, by their names."""

from __future__ import annotations

from pathlib import Path

from s2svos_engines.errors import UserError

FOLDER = Path(__file__).parent / "weights"
DEFAULT = "lite"
BUNDLES = (DEFAULT, "lite-hq", "lite-fast")
CHECKPOINTS = (DEFAULT, "lite-fast")  # lite-hq has the weights of lite, at a larger size


def bundle_path(bundle: str | Path | None = None) -> Path:
    """Return the path of a bundle.

    Args:
        bundle: one of :data:`BUNDLES`, or a path; None for ``lite``.
    """
    name = str(bundle or DEFAULT)
    return FOLDER / f"{name}.s2s" if name in BUNDLES else Path(name)


def checkpoint_path(checkpoint: str | Path) -> Path:
    """Return the path of a checkpoint: one of :data:`CHECKPOINTS`, or a path.

    Raises:
        UserError: it is the name of a bundle that ships without one.
    """
    name = str(checkpoint)
    if name in BUNDLES and name not in CHECKPOINTS:
        raise UserError(f"{name} has no checkpoint of its own", f"name {DEFAULT}, its weights")
    return FOLDER / f"{name}.pt" if name in CHECKPOINTS else Path(name)
