"""What the parts of a bundle's step graph are: weights, the cell's gates, logits."""

from __future__ import annotations

from collections.abc import Iterator

from s2svos_engines.contract import StepContract
from s2svos_engines.errors import UserError
from s2svos_engines.torch_graph.graph import Graph, Node

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def kernels(graph: Graph, node: Node) -> list[str]:
    """Names of a node's weights: kernel and bias of a convolution or matrix product."""
    if node.operator not in WEIGHTED:
        return []
    constants = [name for name in node.inputs if name in graph.constants]
    return [name for name in constants if graph.constants[name].is_floating_point()]


def gates(step: Graph, contract: StepContract) -> set[str]:
    """The ConvLSTM's weights: those next to a state that is carried on without any in between.

    A memory that is written anew every frame, as that of the previous mask, is no such state.
    """
    carried = {state.input.name for state in contract.states}
    found: set[str] = set()
    for state in contract.states:
        nodes = list(_behind(step, state.output.name))
        near = [node for node in nodes if not kernels(step, node)]
        if any(carried.intersection(node.inputs) for node in near):
            found.update(name for node in nodes for name in kernels(step, node))
    return found


def logits(step: Graph, contract: StepContract) -> str:
    """Name of the tensor whose sigmoid becomes the object masks.

    Raises:
        UserError: the masks do not come from a sigmoid.
    """
    name = contract.object_masks.name
    while node := step.makers.get(name):
        name = next(each for each in node.inputs if each not in step.constants)
        if node.operator == "Sigmoid":
            return name
        if kernels(step, node):
            break
    raise UserError(
        "The bundle's masks do not come from a sigmoid, which online learning needs; "
        "run it without --adapt."
    )


def _behind(graph: Graph, name: str) -> Iterator[Node]:
    """The nodes that a tensor's values come from, as far back as the nearest weights."""
    waiting, seen = [name], set()
    while waiting:
        node = graph.makers.get(waiting.pop())
        if node is None or node.outputs in seen or node.operator == "Shape":
            continue
        seen.add(node.outputs)
        yield node
        if not kernels(graph, node):
            waiting.extend(node.inputs)
