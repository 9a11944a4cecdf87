"""OpenVINO's counters of the layers of a step graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from s2svos_engines.arrays import Frame, States
from s2svos_engines.backends.openvino_graphs import OpenVinoGraphs
from s2svos_engines.backends.openvino_library import ov
from s2svos_engines.contract import StepContract
from s2svos_engines.profile import WARM_UP, Layer, layers
from s2svos_engines.states import counts


def profile_step(
    graphs: OpenVinoGraphs,
    contract: StepContract,
    frame: Frame,
    states: States,
    *,
    repeats: int,
) -> list[Layer]:
    """Step a frame again and again from the same states; return the layers, slowest first."""
    request = graphs.counted("step", counts(contract, states)).create_infer_request()
    inputs: dict[str, NDArray[Any]] = {contract.frame.name: frame}
    inputs |= {
        state.input.name: value for state, value in zip(contract.states, states, strict=True)
    }

    def steps() -> Iterator[Counter[tuple[str, str, str]]]:
        for index in range(WARM_UP + repeats):
            request.infer(inputs)
            if index >= WARM_UP:
                yield _seconds(request)

    return layers(steps())


def _seconds(request: ov.InferRequest) -> Counter[tuple[str, str, str]]:
    seconds: Counter[tuple[str, str, str]] = Counter()
    for one in request.profiling_info:
        if taken := one.real_time.total_seconds():
            # A convolution whose bias was fused is called after the node with this at its end.
            node = one.node_name.removesuffix("/WithoutBiases")
            seconds[node, one.node_type, one.exec_type] += taken
    return seconds
