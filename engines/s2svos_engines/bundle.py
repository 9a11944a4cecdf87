"""The bundle: one zip with the graphs and all that is to be known about them.

``NAME.s2s`` is a zip without compression. ``manifest.json`` holds the format version, the step
contract, the graphs of each precision, those that engines on a GPU run instead (TensorRT takes
int8 in one form alone), the SHA-256 of every other member and the facts of training, parity and
tools. Weights that several graphs share are a member of their own, an ONNX model with nothing else
in it. Other members are reports and TensorRT plans. The zip's comment is the SHA-256 of every byte
before it, so that a change of any byte is noticed before anything is executed. Every format ends
with this seal.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

from s2svos_engines.contract import StepContract, frames_per_call
from s2svos_engines.errors import UserError
from s2svos_engines.files import need_regular_file, written_beside
from s2svos_engines.graph_check import check_graph
from s2svos_engines.manifest import Manifest

FORMAT = 2
MANIFEST = "manifest.json"
ON_DEMAND = ("fp16", "int8")  # precisions that an export makes if it is told to
SEAL = 64  # characters of a SHA-256 in hexadecimal


# What zipfile raises for a file that is none, or is damaged.
_DAMAGED = (
    *(zipfile.BadZipFile, OSError, EOFError, KeyError, ValueError, TypeError),
    *(NotImplementedError, RuntimeError, struct.error),
)


@dataclass(frozen=True)
class Model:
    """An ONNX model, in the pieces in which a bundle keeps it.

    Models are protocol buffers: one after the other, the pieces are the whole model, their lists
    joined.

    Args:
        own: the model without ``shared``.
        shared: models with nothing but weights, which other graphs have too.
    """

    own: bytes
    shared: tuple[bytes, ...] = ()


Models = Mapping[str, Mapping[str, bytes | Model]]
"""ONNX models by precision and name; as bytes if they share no weights."""


@dataclass(frozen=True)
class Bundle:
    """A bundle whose bytes have been checked.

    Args:
        path: of the file.
        sha256: of the file without its seal; names the bundle.
        manifest: what the bundle says of itself.
        lasting: whether another process will open it, so that compiled graphs are worth keeping.
    """

    path: Path
    sha256: str
    manifest: Manifest
    lasting: bool = True

    @classmethod
    def open(cls, path: Path, *, lasting: bool = True) -> Bundle:
        """Open and check a bundle.

        Raises:
            UserError: missing, no bundle, of a newer format, truncated or changed.
        """
        try:
            need_regular_file(path)
            return cls._checked(path, lasting)
        except FileNotFoundError as error:
            raise UserError(
                f"{path} does not exist", "name a .s2s bundle that s2svos export wrote"
            ) from error
        except _DAMAGED as error:
            raise UserError(
                f"{path} is not a bundle or is damaged ({error})", "copy or export it again"
            ) from error

    @classmethod
    def _checked(cls, path: Path, lasting: bool) -> Bundle:
        # First of all, so that not even the zip's own structures are read from changed bytes.
        sha256 = _sha256_of_body(path)
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - SEAL))
            if file.read() != sha256.encode("ascii"):
                raise ValueError("its checksum differs")
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path.stat().st_size)
            text = archive.read(MANIFEST)
            newest = _format(text)
            if newest > FORMAT:
                raise UserError(
                    f"{path} has bundle format {newest}, newer than {FORMAT}, which this s2svos "
                    "reads",
                    "take a newer version of it",
                )
            manifest = Manifest.from_json(text)
            if set(archive.namelist()) != {MANIFEST, *manifest.members}:
                raise ValueError("its members are not those of its manifest")
        return cls(path, sha256, manifest, lasting)

    @property
    def contract(self) -> StepContract:
        """Interface of the graphs."""
        return self.manifest.contract

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions for which there are graphs."""
        return tuple(self.manifest.graphs)

    def for_gpu(self) -> Bundle:
        """Return the same with the graphs that engines on a GPU run."""
        graphs = {**self.manifest.graphs, **self.manifest.gpu_graphs}
        return replace(self, manifest=replace(self.manifest, graphs=graphs))

    def graph_names(self, precision: str = "fp32") -> tuple[str, ...]:
        """Return ``init``, ``step`` and, if the bundle has them, ``stepT`` and ``batch``."""
        return tuple(self._members(precision))

    def frames_per_call(self, precision: str = "fp32") -> tuple[int, ...]:
        """Return how many frames the step graphs of a precision take, rising; 1 is first."""
        steps = (name for name in self.graph_names(precision) if name.startswith("step"))
        return tuple(sorted(map(frames_per_call, steps)))

    def graph(self, name: str, *, precision: str = "fp32") -> bytes:
        """Return an ONNX model.

        Args:
            name: one of :meth:`graph_names`.
            precision: one of :attr:`precisions`.

        Raises:
            UserError: the bundle lacks this precision, or the model could do more than compute.
        """
        return self._joined(name, map(self.read, self.pieces(name, precision=precision)))

    def _joined(self, name: str, pieces: Iterable[bytes]) -> bytes:
        model = b"".join(pieces)
        try:
            check_graph(model)
        except ValueError as error:
            raise UserError(
                f"The graph {name} of {self.path} {error}",
                "do not run it; export the bundle again from a checkpoint that you trust",
            ) from error
        return model

    def pieces(self, name: str, *, precision: str = "fp32") -> tuple[str, ...]:
        """Return the members that one after the other are an ONNX model.

        Args:
            name: one of :meth:`graph_names`.
            precision: one of :attr:`precisions`.

        Raises:
            UserError: the bundle lacks this precision.
        """
        return self.manifest.pieces(self._members(precision)[name])

    def graphs(self, precision: str = "fp32") -> dict[str, Callable[[], bytes]]:
        """Return functions that return the ONNX models of a precision, by name.

        For engines: all are read now, since the bundle may be gone by the time that a graph is
        first compiled. Joined and checked, as :meth:`graph` does, are those that are compiled.

        Raises:
            UserError: the bundle lacks this precision.
        """
        read = cache(self.read)  # weights that several have in common once
        return {
            name: partial(
                self._joined, name, list(map(read, self.pieces(name, precision=precision)))
            )
            for name in self.graph_names(precision)
        }

    def graph_sum(self, name: str, *, precision: str = "fp32") -> str:
        """Return a text that is a graph's alone: the SHA-256 of its pieces."""
        return " ".join(
            self.manifest.members[piece] for piece in self.pieces(name, precision=precision)
        )

    def read(self, member: str) -> bytes:
        """Return a member of the zip.

        Raises:
            UserError: it is not what it was when the bundle was opened.
        """
        try:
            with zipfile.ZipFile(self.path) as archive:
                data = archive.read(member)
        except _DAMAGED as error:
            raise self._changed(member) from error
        if hashlib.sha256(data).hexdigest() != self.manifest.members[member]:
            raise self._changed(member)
        return data

    def _changed(self, member: str) -> UserError:
        return UserError(
            f"{member} in {self.path} is damaged, or changed while it was in use",
            "copy or export it again",
        )

    def _members(self, precision: str) -> Mapping[str, str]:
        if precision not in self.precisions:
            known = (
                f"export it with s2svos export --{precision}, or " if precision in ON_DEMAND else ""
            )
            raise UserError(
                f"{self.path} holds {', '.join(self.precisions)}, not {precision}",
                f"{known}choose another --precision",
            )
        return self.manifest.graphs[precision]


def write_bundle(
    path: Path,
    *,
    contract: StepContract,
    graphs: Models,
    gpu_graphs: Models | None = None,
    facts: Mapping[str, Any],
    others: Mapping[str, bytes] | None = None,
    shared: bool = False,
) -> None:
    """Write a bundle beside ``path`` and rename it.

    Args:
        path: of the file, replaced if it exists.
        contract: interface of the graphs.
        graphs: for each precision, the ONNX models ``init``, ``step`` and perhaps ``stepT`` and
            ``batch``; as bytes if they share no weights. A model or piece that occurs twice is
            kept once.
        gpu_graphs: likewise, for engines on a GPU; of other precisions they run those of all.
        facts: JSON types for the manifest: network, training, parity, tools.
        others: further members by name, reports and plans.
        shared: other processes may write the same file at the same time.

    Raises:
        OSError: it cannot be written; ``path`` is what it was.
    """
    members = dict(others or {})
    names: dict[bytes, str] = {}
    weights: dict[str, list[str]] = {}

    def place(models: Mapping[str, bytes | Model], folder: str) -> dict[str, str]:
        where = {}
        for name, model in models.items():
            model = model if isinstance(model, Model) else Model(model)
            member = where[name] = names.setdefault(model.own, f"{folder}{name}.onnx")
            members[member] = model.own
            weights[member] = []
            for piece in model.shared:
                name_of_piece = names.setdefault(piece, f"weights/{len(names)}.onnx")
                members[name_of_piece] = piece
                weights[member].append(name_of_piece)
        return where

    for_all = {
        precision: place(models, "" if precision == "fp32" else f"{precision}/")
        for precision, models in graphs.items()
    }
    for_gpu = {
        precision: place(models, f"gpu/{precision}/")
        for precision, models in (gpu_graphs or {}).items()
    }
    sums = {name: hashlib.sha256(data).hexdigest() for name, data in members.items()}
    manifest = Manifest(FORMAT, contract, for_all, for_gpu, weights, sums, facts)
    with written_beside(path, shared=shared) as part:
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest.to_json(), indent=1))
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)
            archive.comment = b"0" * SEAL
        sha256 = _sha256_of_body(part)
        with part.open("r+b") as file:
            file.seek(-SEAL, os.SEEK_END)
            file.write(sha256.encode("ascii"))


def add_plans(path: Path, plans: Iterable[tuple[Mapping[str, Any], bytes]]) -> None:
    """Rewrite a bundle with further TensorRT plans; all else stays as it is.

    Args:
        path: of the bundle.
        plans: records for the manifest's list ``plans``, each with its ``member``, and the plans.
            A record with the member, graph and precision of one that is there takes its place.

    Raises:
        UserError: the bundle cannot be read.
        OSError: it cannot be written; it is what it was.
    """
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    of_models: set[str] = set()

    def models(members: Mapping[str, str]) -> dict[str, Model]:
        found = {}
        for name, member in members.items():
            pieces = manifest.pieces(member)
            of_models.update(pieces)
            own, *shared = map(bundle.read, pieces)
            found[name] = Model(own, tuple(shared))
        return found

    graphs = {precision: models(members) for precision, members in manifest.graphs.items()}
    gpu_graphs = {precision: models(members) for precision, members in manifest.gpu_graphs.items()}
    others = {name: bundle.read(name) for name in manifest.members if name not in of_models}
    records = {_plan_key(record): record for record in manifest.plans}
    for record, plan in plans:
        others[record["member"]] = plan
        records[_plan_key(record)] = record
    write_bundle(
        path,
        contract=bundle.contract,
        graphs=graphs,
        gpu_graphs=gpu_graphs,
        facts={**manifest.facts, "plans": list(records.values())},
        others=others,
    )


def _check_members(archive: zipfile.ZipFile, size: int) -> None:
    """Refuse members that would take more memory than the file has bytes.

    Raises:
        ValueError: one is compressed or there twice, or they are larger than the file.
    """
    members = archive.infolist()
    if any(one.compress_type != zipfile.ZIP_STORED or one.flag_bits & 1 for one in members):
        raise ValueError("it holds a compressed or encrypted member")
    if len({one.filename for one in members}) < len(members):
        raise ValueError("it holds a member twice")
    if sum(one.file_size for one in members) > size:
        raise ValueError("its members are larger than itself")


def _format(text: bytes) -> int:
    """Return the format that a manifest states, before all else of it is read by that format.

    Raises:
        ValueError: it states none.
    """
    try:
        data = json.loads(text)
        stated = data["format"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("its manifest states no format") from error
    if not isinstance(stated, int):
        raise ValueError("its manifest states no format")
    return stated


def _plan_key(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["member"], record["graph"], record["precision"]


def _sha256_of_body(path: Path) -> str:
    """Return the SHA-256 of a file less its last 64 bytes, the seal."""
    digest, left = hashlib.sha256(), path.stat().st_size - SEAL
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
