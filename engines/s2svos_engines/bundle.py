"""The bundle: one zip with the graphs and all that is to be known about them.

``NAME.s2s`` is a zip without compression. ``manifest.json`` holds the format version, the step
contract, the graphs of each precision, the SHA-256 of every other member and the facts of
training, parity and tools. Weights that several graphs share are a member of their own, an ONNX
model with nothing else in it. Other members are reports and TensorRT plans. The zip's comment is
the SHA-256 of every byte before it, so that a change of any byte is noticed before anything is
executed. Every format ends with this seal.
"""

from __future__ import annotations

import hashlib
import json
import os
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from s2svos_engines.contract import StepContract, frames_per_call
from s2svos_engines.errors import UserError

FORMAT = 2
MANIFEST = "manifest.json"
SEAL = 64  # characters of a SHA-256 in hexadecimal


@dataclass(frozen=True)
class Bundle:
    """A bundle whose bytes have been checked.

    Args:
        path: of the file.
        sha256: of the file without its seal; names the bundle.
        manifest: contents of ``manifest.json``.
        contract: interface of the graphs.
    """

    path: Path
    sha256: str
    manifest: Mapping[str, Any]
    contract: StepContract

    @classmethod
    def open(cls, path: Path) -> Bundle:
        """Opens and checks a bundle.

        Raises:
            UserError: missing, no bundle, of a newer format, truncated or changed.
        """
        if not path.is_file():
            raise UserError(f"{path} does not exist", "name a .s2s bundle that s2svos export wrote")
        try:
            return cls._checked(path)
        except (zipfile.BadZipFile, OSError, KeyError, ValueError, TypeError) as error:
            raise UserError(
                f"{path} is not a bundle or is damaged ({error})", "copy or export it again"
            ) from error

    @classmethod
    def _checked(cls, path: Path) -> Bundle:
        # First of all, so that not even the zip's own structures are read from changed bytes.
        sha256 = _sha256_of_body(path)
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - SEAL))
            if file.read() != sha256.encode("ascii"):
                raise ValueError("its checksum differs")
        with zipfile.ZipFile(path) as archive:
            manifest = json.loads(archive.read(MANIFEST))
            if manifest["format"] > FORMAT:
                raise UserError(
                    f"{path} has bundle format {manifest['format']}, newer than {FORMAT}, which "
                    "this s2svos reads",
                    "upgrade it with pip install -U s2svos",
                )
            members = manifest["members"]
            if set(archive.namelist()) != {MANIFEST, *members}:
                raise ValueError("its members are not those of its manifest")
            for name, expected in members.items():
                if hashlib.sha256(archive.read(name)).hexdigest() != expected:
                    raise ValueError(f"the checksum of {name} differs")
        return cls(path, sha256, manifest, StepContract.from_json(manifest["contract"]))

    def graph(self, name: str, *, precision: str = "fp32") -> bytes:
        """An ONNX model.

        Args:
            name: one of :meth:`graph_names`.
            precision: one of :attr:`precisions`.

        Raises:
            UserError: the bundle lacks this precision.
        """
        member = self._members(precision)[name]
        # Models are protocol buffers: one after the other they are one, their lists joined.
        return b"".join(map(self.read, (member, *self.weights(member))))

    def graphs(self, precision: str = "fp32") -> dict[str, bytes]:
        """Return all ONNX models of a precision by name.

        For engines, which read them when they are made: the bundle may be gone by the time that a
        graph is first compiled.

        Raises:
            UserError: the bundle lacks this precision.
        """
        names = self.graph_names(precision)
        return {name: self.graph(name, precision=precision) for name in names}

    def frames_per_call(self, precision: str = "fp32") -> tuple[int, ...]:
        """How many frames the step graphs of a precision take at a time, rising; 1 is first."""
        steps = (name for name in self.graph_names(precision) if name.startswith("step"))
        return tuple(sorted(map(frames_per_call, steps)))

    def graph_names(self, precision: str = "fp32") -> tuple[str, ...]:
        """``init``, ``step`` and, where the bundle has them, ``stepT`` and ``batch``."""
        return tuple(self._members(precision))

    def weights(self, member: str) -> Sequence[str]:
        """The members with the weights that a graph's member shares with others."""
        weights: Mapping[str, Sequence[str]] = self.manifest.get("weights", {})
        return weights.get(member, ())

    def read(self, member: str) -> bytes:
        """A member of the zip."""
        with zipfile.ZipFile(self.path) as archive:
            return archive.read(member)

    def _members(self, precision: str) -> Mapping[str, str]:
        if precision not in self.precisions:
            raise UserError(
                f"{self.path} holds {', '.join(self.precisions)}, not {precision}",
                f"export it with s2svos export --{precision}, or choose another --precision",
            )
        members: Mapping[str, str] = self.manifest["graphs"][precision]
        return members

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions for which there are graphs."""
        return tuple(self.manifest["graphs"])


def write_bundle(
    path: Path,
    *,
    contract: StepContract,
    graphs: Mapping[str, Mapping[str, bytes | tuple[bytes, ...]]],
    facts: Mapping[str, Any],
    others: Mapping[str, bytes] | None = None,
) -> None:
    """Writes a bundle beside ``path`` and renames it.

    Args:
        path: of the file, replaced where it exists.
        contract: interface of the graphs.
        graphs: for each precision, the ONNX models ``init``, ``step`` and perhaps ``stepT``, each
            whole, or in pieces: the model and the weights that it shares with others. Where two
            have the same model or piece, the bundle has it once.
        facts: JSON types that go into the manifest: network, training, parity, tools.
        others: further members by name, reports and plans.
    """
    members = dict(others or {})
    names: dict[bytes, str] = {}
    where: dict[str, dict[str, str]] = {}
    weights: dict[str, list[str]] = {}
    for precision, models in graphs.items():
        folder = "" if precision == "fp32" else f"{precision}/"
        where[precision] = {}
        for name, model in models.items():
            own, *shared = model if isinstance(model, tuple) else (model,)
            member = where[precision][name] = names.setdefault(own, f"{folder}{name}.onnx")
            members[member] = own
            weights[member] = []
            for piece in shared:
                part = names.setdefault(piece, f"weights/{len(names)}.onnx")
                members[part] = piece
                weights[member].append(part)
    manifest = {
        "format": FORMAT,
        "contract": contract.to_json(),
        "graphs": where,
        "weights": weights,
        "members": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
        **facts,
    }
    beside = path.with_name(path.name + ".part")
    try:
        with zipfile.ZipFile(beside, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(zipfile.ZipInfo(MANIFEST), json.dumps(manifest, indent=1))
            for name, data in members.items():
                archive.writestr(zipfile.ZipInfo(name), data)
            archive.comment = b"0" * SEAL
        sha256 = _sha256_of_body(beside)
        with beside.open("r+b") as file:
            file.seek(-SEAL, os.SEEK_END)
            file.write(sha256.encode("ascii"))
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def add_plans(path: Path, plans: Iterable[tuple[Mapping[str, Any], bytes]]) -> None:
    """Rewrites a bundle with further TensorRT plans; all else stays as it is.

    Args:
        path: of the bundle.
        plans: records for the manifest's list ``plans``, each with its ``member``, and the plans.
            A record with the member, graph and precision of one that is there takes its place.

    Raises:
        UserError: the bundle cannot be read.
        OSError: it cannot be written; it is what it was.
    """
    bundle = Bundle.open(path)
    graphs: Mapping[str, Mapping[str, str]] = bundle.manifest["graphs"]
    models = {member for names in graphs.values() for member in names.values()}
    models |= {part for member in models for part in bundle.weights(member)}
    others = {name: bundle.read(name) for name in bundle.manifest["members"] if name not in models}
    records = {_key(record): record for record in bundle.manifest.get("plans", ())}
    for record, plan in plans:
        others[record["member"]] = plan
        records[_key(record)] = record
    own = ("format", "contract", "graphs", "weights", "members")  # that write_bundle writes itself
    facts = {key: value for key, value in bundle.manifest.items() if key not in own}
    write_bundle(
        path,
        contract=bundle.contract,
        graphs={
            precision: {
                name: tuple(map(bundle.read, (member, *bundle.weights(member))))
                for name, member in names.items()
            }
            for precision, names in graphs.items()
        },
        facts={**facts, "plans": list(records.values())},
        others=others,
    )


def _key(record: Mapping[str, Any]) -> tuple[str, str, str]:
    return record["member"], record["graph"], record["precision"]


def _sha256_of_body(path: Path) -> str:
    """SHA-256 of a file less its last 64 bytes, the seal."""
    digest, left = hashlib.sha256(), path.stat().st_size - SEAL
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, 1 << 20))):
            digest.update(chunk)
            left -= len(chunk)
    return digest.hexdigest()
