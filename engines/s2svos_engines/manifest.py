"""What a bundle says of itself, ``manifest.json``, checked against a schema.

A manifest may come from a stranger, and what it says decides how much memory an engine takes and
which bytes it runs; so types, names and sizes are checked before anything is done by them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, Struct

from s2svos_engines.contract import StateSpec, StepContract

LARGEST = 8192  # rows or columns of the network's frame, and elements along an axis of a state
BUDGET = 0.98
"""Least mean IoU with PyTorch of precisions other than fp32, unless another is asked for."""

MAX_STATE_BYTES = 1 << 28  # of one object

_Side = Annotated[int, Meta(ge=1, le=LARGEST)]
_Name = Annotated[str, Meta(pattern=r"\A[A-Za-z_][A-Za-z0-9_]{0,63}\Z")]
_Graph = Annotated[str, Meta(pattern=r"\A(init|batch|step([1-9][0-9]?)?)\Z")]
_Member = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f]{1,200}\Z")]
_Digest = Annotated[str, Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Mapping = dict[str, Any]


class _State(Struct):
    name: _Name
    shape: Annotated[tuple[_Side, ...], Meta(min_length=1, max_length=8)]
    dtype: Annotated[str, Meta(pattern=r"\A(float32|float16|int32|int64|uint8)\Z")] = "float32"
    shared: bool = False
    entered: bool = False


class _Contract(Struct):
    height: _Side
    width: _Side
    states: Annotated[tuple[_State, ...], Meta(min_length=1, max_length=64)]


class _Document(Struct):
    """The schema of ``manifest.json``; fields that it does not name may hold anything."""

    format: Annotated[int, Meta(ge=1)]
    contract: _Contract
    graphs: dict[_Name, dict[_Graph, _Member]]
    members: Annotated[dict[_Member, _Digest], Meta(max_length=1000)]
    gpu_graphs: dict[_Name, dict[_Graph, _Member]] = {}
    weights: dict[_Member, tuple[_Member, ...]] = {}  # format 1 shares none
    parity: dict[str, _Mapping] = {}
    network: _Mapping = {}
    training: _Mapping = {}
    tools: dict[str, str] = {}
    int8: _Mapping = {}
    plans: list[_Mapping] = []


@dataclass(frozen=True)
class Manifest:
    """The contents of ``manifest.json``.

    Args:
        format: version of the bundle's format.
        contract: interface of the graphs.
        graphs: the graphs' members, by precision and by name.
        gpu_graphs: likewise, those that engines on a GPU run instead.
        weights: for a graph's member, the members with the weights that it shares with others.
        members: SHA-256 of every member but the manifest, in hexadecimal.
        facts: all else, JSON types: what the properties below give, ``opset``, ``max_objects`` and
            whatever a later version has added.
    """

    format: int
    contract: StepContract
    graphs: Mapping[str, Mapping[str, str]]
    gpu_graphs: Mapping[str, Mapping[str, str]]
    weights: Mapping[str, Sequence[str]]
    members: Mapping[str, str]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Read what :meth:`to_json` returned, or a manifest of an older format.

        Raises:
            ValueError: it is no manifest, or states sizes beyond all use.
        """
        try:
            document = msgspec.json.decode(text, type=_Document)
            facts: dict[str, Any] = msgspec.json.decode(text)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise ValueError(f"its manifest: {error}") from error
        for name in ("format", "contract", "graphs", "gpu_graphs", "weights", "members"):
            facts.pop(name, None)
        manifest = cls(
            format=document.format,
            contract=_contract(document.contract),
            graphs=document.graphs,
            gpu_graphs=document.gpu_graphs,
            weights=document.weights,
            members=document.members,
            facts=facts,
        )
        manifest._check_pieces()
        return manifest

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as JSON types."""
        return {
            "format": self.format,
            "contract": self.contract.to_json(),
            "graphs": self.graphs,
            "gpu_graphs": self.gpu_graphs,
            "weights": self.weights,
            "members": self.members,
            **self.facts,
        }

    def pieces(self, member: str) -> tuple[str, ...]:
        """Return a graph's member and the members with the weights that it shares."""
        return member, *self.weights.get(member, ())

    def mean_iou(self, precision: str) -> float | None:
        """Return the mean IoU with PyTorch that the export found; None if that is unknown."""
        found = self.parity.get(precision, {}).get("mean_iou")
        return float(found) if isinstance(found, (int, float)) else None

    def holds(self, precision: str, engine: str) -> bool:
        """Return whether the export measured a precision on an engine, and found it within budget.

        Args:
            precision: of the graphs.
            engine: the name of it, with its arithmetic if that is not the usual.
        """
        engines = self.parity.get(precision, {}).get("engines", ())
        iou = self.mean_iou(precision)
        return engine in engines and iou is not None and iou >= BUDGET

    @property
    def parity(self) -> Mapping[str, Mapping[str, Any]]:
        """For each precision, how far its graphs drift from PyTorch (``drift.parity``)."""
        return self._mapping("parity")

    @property
    def network(self) -> Mapping[str, Any]:
        """The network's configuration."""
        return self._mapping("network")

    @property
    def preset(self) -> str | None:
        """The name of the network's design."""
        return self.network.get("preset")

    @property
    def training(self) -> Mapping[str, Any]:
        """How the weights were made."""
        return self._mapping("training")

    @property
    def tools(self) -> Mapping[str, str]:
        """Versions of the packages that made the bundle."""
        return self._mapping("tools")

    @property
    def int8(self) -> Mapping[str, Any]:
        """What int8 quantises and why (``Int8Choice.to_json``)."""
        return self._mapping("int8")

    @property
    def plans(self) -> Sequence[Mapping[str, Any]]:
        """Records of the TensorRT plans (``tensorrt.plans.Plan.to_json``)."""
        plans: Sequence[Mapping[str, Any]] = self.facts.get("plans", ())
        return plans

    def _mapping(self, key: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.facts.get(key, {})
        return found

    def _check_pieces(self) -> None:
        """Refuse graphs whose pieces are not there, or there more than once.

        A weight that a graph names again and again would fill the memory.

        Raises:
            ValueError: there is one.
        """
        for precision, graphs in (*self.graphs.items(), *self.gpu_graphs.items()):
            if not {"init", "step"} <= graphs.keys():
                raise ValueError(f"its manifest names no init or step graph in {precision}")
            for member in graphs.values():
                pieces = self.pieces(member)
                if len({*pieces}) < len(pieces) or not {*pieces} <= self.members.keys():
                    raise ValueError(f"its manifest names wrong members for the graph {member}")


def _contract(stated: _Contract) -> StepContract:
    """Return the contract of a manifest.

    Raises:
        ValueError: its states are larger than any use has for them, or their names clash.
    """
    states = [
        StateSpec(one.name, one.shape, one.dtype, one.shared, one.entered) for one in stated.states
    ]
    size = sum(math.prod(one.shape) * np.dtype(one.dtype).itemsize for one in states)
    if size > MAX_STATE_BYTES:
        raise ValueError(f"its manifest states {size / 1e6:.0f} MB of state an object")
    return StepContract(stated.height, stated.width, tuple(states))
