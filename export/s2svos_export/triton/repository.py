"""Writes a model repository."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import numpy as np
from google.protobuf.text_format import ParseError

from s2svos_engines.bundle import Bundle
from s2svos_engines.errors import UserError
from s2svos_export.triton.config import SEQUENCES, config_text, parse_config, same_interface
from s2svos_export.triton.graph import stream_graph

CONTAINER = "26.09"
"""Release of Triton for which the configuration was written."""


def write_model_repository(
    bundle: Bundle,
    directory: Path,
    *,
    name: str = "s2svos",
    precision: str = "fp32",
    sequences: int = SEQUENCES,
) -> Path:
    """Writes a model repository, or a new version into one.

    It holds ``NAME/config.pbtxt``, ``NAME/VERSION/model.onnx``, ``README.md`` and ``client.py``. A
    model that is the newest version already is not written again, and a configuration that is
    there stays as it is.

    Args:
        bundle: to serve.
        directory: the repository, made where it does not exist.
        name: of the model on the server.
        precision: of the graphs, one that the bundle has.
        sequences: streams that are followed at a time on each instance of the model.

    Returns:
        The folder of the version.

    Raises:
        UserError: the bundle lacks the precision, the repository has another network or a broken
            configuration under this name, or it cannot be written.
    """
    text = config_text(bundle.contract, name=name, sequences=sequences)
    folder = directory / name
    config = folder / "config.pbtxt"
    try:
        kept = config.read_text() if config.exists() else text
        if not same_interface(parse_config(kept), parse_config(text)):
            raise UserError(
                f"{config} is of a network with another size or state",
                "choose another folder, or remove it",
            )
        model = stream_graph(bundle, precision=precision)
        newest = folder / str(_newest(folder))
        if newest.is_dir() and (newest / "model.onnx").read_bytes() == model:
            return newest
        added = folder / str(_newest(folder) + 1)
        with _replacing(added) as beside:
            (beside / "model.onnx").write_bytes(model)
            client = files(__package__).joinpath("client.py").read_text()
            _write(directory / "client.py", client)
            _write(directory / "README.md", _readme(bundle, name, precision, sequences))
            _write(config, kept)
    except ParseError as error:
        raise UserError(f"{config} cannot be read ({error})", "mend it or remove it") from error
    except OSError as error:
        raise UserError(
            f"{directory} cannot be written ({error.strerror})", "choose another folder"
        ) from error
    return added


def _newest(folder: Path) -> int:
    """Number of the newest version of a model, 0 if there is none."""
    names = [one.name for one in folder.iterdir()] if folder.is_dir() else []
    return max((int(name) for name in names if name.isdigit()), default=0)


@contextmanager
def _replacing(added: Path) -> Iterator[Path]:
    """A folder that gets the name ``added`` once it is whole: a server may be watching."""
    beside = added.with_name("part")  # not a number, so that Triton passes over it
    beside.mkdir(parents=True, exist_ok=True)
    try:
        yield beside
        os.replace(beside, added)
    except BaseException:
        shutil.rmtree(beside)
        with suppress(OSError):  # what holds anything else stays
            added.parent.rmdir()
            added.parent.parent.rmdir()
        raise


def _write(path: Path, text: str) -> None:
    beside = path.with_name(path.name + ".part")
    beside.write_text(text)
    os.replace(beside, path)


def _readme(bundle: Bundle, name: str, precision: str, sequences: int) -> str:
    contract = bundle.contract
    state = sum(math.prod(s.shape) * np.dtype(s.dtype).itemsize for s in contract.states)
    return (
        files(__package__)
        .joinpath("README.md")
        .read_text()
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
