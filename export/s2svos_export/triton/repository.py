"""Model repositories for Triton Inference Server."""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from google.protobuf.text_format import ParseError

from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_engines.files import disk_errors, is_plain_name, write_atomically
from s2svos_export.triton.config import SEQUENCES, config_text, parse_config, same_interface
from s2svos_export.triton.graph import stream_graph

CONTAINER = "26.09"
"""Release of Triton for which the configuration was written."""
CLIENT = '''"""Follow the objects of a video with the model in this folder; needs s2svos[triton]."""

from s2svos.triton_client import main

main()
'''


def write_model_repository(
    bundle: Bundle,
    directory: Path,
    *,
    name: str = "s2svos",
    precision: str = "fp32",
    sequences: int = SEQUENCES,
) -> Path:
    """Write a model repository, or a new version into one.

    It holds ``NAME/config.pbtxt``, ``NAME/VERSION/model.onnx``, ``README.md`` and ``client.py``. A
    model that is the newest version already is not written again, and a configuration that is
    there stays as it is.

    Args:
        bundle: to serve.
        directory: the repository, made if it does not exist.
        name: of the model on the server; of a folder, so without slashes.
        precision: of the graphs, one that the bundle has.
        sequences: streams that are followed at a time on each instance of the model.

    Returns:
        The folder of the version.

    Raises:
        UserError: the bundle lacks the precision, the repository has another network or a broken
            configuration under this name, or it cannot be written.
    """
    if not is_plain_name(name):
        raise UserError(f"{name!r} is no name of a model", "choose one without / and :")
    text = config_text(bundle.contract, name=name, sequences=sequences)
    folder = directory / name
    config = folder / "config.pbtxt"
    with disk_errors(directory, again="run again", elsewhere="choose another folder"):
        kept = _kept_config(config, text)
        model = stream_graph(bundle, precision=precision)
        newest = folder / str(_newest(folder))
        if newest.is_dir() and (newest / "model.onnx").read_bytes() == model:
            return newest
        added = folder / str(_newest(folder) + 1)
        with _replacing(added) as beside:
            (beside / "model.onnx").write_bytes(model)
            readme = _readme(bundle, name, precision, sequences)
            _write_ours(directory / "client.py", CLIENT.encode())
            _write_ours(directory / "README.md", readme.encode())
            write_atomically(config, kept.encode())
    return added


def _write_ours(path: Path, data: bytes) -> None:
    """Write a file, over an earlier one of ours, which begins with the same line.

    Raises:
        UserError: another file has its name.
    """
    if path.exists() and path.read_bytes().partition(b"\n")[0] != data.partition(b"\n")[0]:
        raise UserError(
            f"{path} is not of s2svos and would be overwritten",
            "move it away, or choose another folder",
        )
    write_atomically(path, data)


def _kept_config(config: Path, text: str) -> str:
    """Return the configuration that is there already; ``text`` if there is none.

    Raises:
        UserError: it cannot be read, or its inputs, outputs or states are not those of ``text``.
    """
    if not config.exists():
        return text
    try:
        kept = config.read_text("utf-8")
        parsed = parse_config(kept)
    except (ParseError, UnicodeDecodeError) as error:
        raise UserError(f"{config} cannot be read ({error})", "mend it or remove it") from error
    if not same_interface(parsed, parse_config(text)):
        raise UserError(
            f"{config} is of a network with another size or state",
            "choose another folder, or remove it",
        )
    return kept


def _newest(folder: Path) -> int:
    """Return the number of the newest version of a model, 0 if there is none."""
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if re.fullmatch("[0-9]{1,9}", name)), default=0)


@contextmanager
def _replacing(added: Path) -> Iterator[Path]:
    """Give a folder that is renamed to ``added`` once it is whole: a server may be watching."""
    added.parent.mkdir(parents=True, exist_ok=True)
    # Not a number, so that Triton passes over it.
    beside = Path(tempfile.mkdtemp(prefix=".part-", dir=added.parent))
    beside.chmod(0o755)
    try:
        yield beside
        os.replace(beside, added)
    except BaseException:
        shutil.rmtree(beside)
        with suppress(OSError):  # what holds anything else stays
            added.parent.rmdir()
            added.parent.parent.rmdir()
        raise


def _readme(bundle: Bundle, name: str, precision: str, sequences: int) -> str:
    contract = bundle.contract
    state = sum(math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in contract.states)
    return (
        files(__package__)
        .joinpath("README.md")
        .read_text("utf-8")
        .format(
            name=name,
            precision=precision,
            height=contract.height,
            width=contract.width,
            sha256=bundle.sha256,
            container=CONTAINER,
            state=state / 1e6,
            sequences=sequences,
            tritonclient=version("tritonclient"),
        )
    )
