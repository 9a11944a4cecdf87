"""A network's ``init``, ``step``, ``stepT`` and ``batch`` graphs as ONNX models, fp32 or fp16."""

from __future__ import annotations

import copy
import gc
import json
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, cast

import onnx
import torch
from torch import Tensor, nn

from s2svos_engines.contract import (
    BATCH,
    ENTRIES,
    OBJECTS,
    STREAMS,
    Counts,
    Interface,
    StepContract,
    TensorSpec,
)
from s2svos_export.precision import TracedGraph

# The newest that ONNX Runtime 1.20, OpenVINO 2025 and TensorRT 10.9 all read.
OPSET = 20
MAX_OBJECTS = 255
# torch.export takes a size of 1 for a constant, and two sizes that broadcast for one.
TRACED = Counts(objects=3, entries=3, streams=2)


class Network(Protocol):
    """A network that keeps the step contract; an ``nn.Module`` to be exported.

    One whose ``stepT`` or ``batch`` graph is exported has a method ``steps`` or ``batch`` besides,
    which takes and gives what :class:`StepContract` says of that graph.
    """

    @property
    def contract(self) -> StepContract:
        """Names, shapes and dtypes of the graphs."""
        ...

    def init(self, frame: Tensor, first_masks: Tensor) -> tuple[Tensor, ...]:
        """Return the states after the first frame."""
        ...

    def step(self, frame: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Return the object masks and the states after another frame."""
        ...


class _Graph(nn.Module):
    """One of a network's methods as a module's ``forward``, which is what torch exports."""

    def __init__(self, network: Network, method: str) -> None:
        super().__init__()
        self.network = network
        self.method = method

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = getattr(self.network, self.method)(*inputs)
        return outputs


def export_graph(
    network: Network,
    graph: str,
    *,
    titles: Mapping[str, str],
    max_objects: int = MAX_OBJECTS,
) -> dict[str, bytes]:
    """Export one graph, in one precision or several.

    Args:
        network: in evaluation mode, in fp32, on the CPU.
        graph: ``init``, ``step``, ``stepT`` for T frames a call, or ``batch`` for many streams.
        titles: name of the graph in the model, by the precisions that are wanted: ``fp32``, or
            ``fp16`` for weights and arithmetic in half precision; frames, masks and states are the
            same in both. Engine caches are keyed by it, so it must differ between networks and
            precisions.
        max_objects: the largest count of objects, and of streams.

    Returns:
        The checked ONNX models, by precision.

    Raises:
        onnx.checker.ValidationError: a model is not valid ONNX.
    """
    with _quiet_exporter(), _without_garbage_collection():
        traced = _traced(network, graph, max_objects, double="fp16" in titles)
    models = {}
    for precision, title in titles.items():
        model = traced.in_precision(precision)
        _name_entries(model, network.contract.interface(graph))
        describe(model, network.contract, graph, title=title, precision=precision)
        onnx.checker.check_model(model, full_check=True)
        models[precision] = model.SerializeToString()
    return models


def _traced(network: Network, graph: str, max_objects: int, *, double: bool) -> TracedGraph:
    """Trace a graph, in double precision but for what the network keeps in float32, or as it is."""
    interface = network.contract.interface(graph)
    if double:
        network = cast(Network, copy.deepcopy(cast(nn.Module, network)).double())
    method = graph if graph in ("init", "step", BATCH) else "steps"
    objects = torch.export.Dim(OBJECTS, min=1, max=max_objects)
    streams = torch.export.Dim(STREAMS, min=1, max=max_objects)
    sizes = {OBJECTS: objects, ENTRIES: objects, STREAMS: streams}
    dynamic = tuple(
        {axis: sizes[size] for axis, size in enumerate(spec.shape) if isinstance(size, str)} or None
        for spec in interface.inputs
    )
    program = torch.onnx.export(
        _Graph(network, method),
        tuple(_example(spec) for spec in interface.inputs),
        input_names=[spec.name for spec in interface.inputs],
        output_names=[spec.name for spec in interface.outputs],
        dynamic_shapes=(dynamic,),
        opset_version=OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # only the old exporter, which writes a file, returns None
    # Apart, so that weights are not copied: a gigabyte, of paper.
    initializers = program.model.graph.initializers
    weights = {
        name: one.const_value.numpy()
        for name, one in initializers.items()
        if one.const_value is not None
    }
    initializers.clear()
    model = program.model_proto
    for node in model.graph.node:  # stack traces with the paths of this machine
        del node.metadata_props[:]
    return TracedGraph(model, weights)


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence the exporter's warnings, which are about itself."""
    optimizer = logging.getLogger("onnx_ir")  # says which equal weights it leaves as they are
    level = optimizer.level
    optimizer.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch 2.15's exporter warns of its own deprecated internals.
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            optimizer.setLevel(level)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Switch the garbage collector off: the exporter needs its millions of objects to the end.

    It took 28 % of the time: 25 s instead of 35 for the three graphs of ``lite``, with 0.1 GB more.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
            gc.collect()  # what is left of a graph holds its weights


def describe(
    model: onnx.ModelProto, contract: StepContract, graph: str, *, title: str, precision: str
) -> None:
    """Write title, contract and a line for each input and output into a model."""
    model.graph.name = title
    model.doc_string = f"s2svos {graph} graph in {precision}; uint8 RGB in, uint8 masks out."
    facts = {"graph": graph, "precision": precision, "contract": json.dumps(contract.to_json())}
    onnx.helper.set_model_props(model, {f"s2svos.{key}": value for key, value in facts.items()})
    meaning = {
        contract.frame.name: "RGB, 0 to 255",
        "frames": "consecutive frames, or one a stream, RGB, 0 to 255",
        "owners": "the stream of each object, an index into frames",
        contract.first_masks.name: "255 for the object, 0 for the rest",
        contract.object_masks.name: "probability times 255",
    }
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = meaning.get(value.name, "state of the cell, of no meaning outside")


def _name_entries(model: onnx.ModelProto, interface: Interface) -> None:
    """Name the dimension of entries in inputs and outputs, which was traced as that of objects.

    The operators that read such a state broadcast it; the shapes between them are left to whoever
    reads the model.
    """
    values = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    entered = [spec for spec in (*interface.inputs, *interface.outputs) if ENTRIES in spec.shape]
    for spec in entered:
        dimension = values[spec.name].type.tensor_type.shape.dim[spec.shape.index(ENTRIES)]
        dimension.dim_param = ENTRIES
    if entered:
        del model.graph.value_info[:]


def _example(spec: TensorSpec) -> Tensor:
    return torch.zeros(spec.sizes(TRACED), dtype=getattr(torch, spec.dtype))
