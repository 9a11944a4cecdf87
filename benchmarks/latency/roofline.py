"""What this machine can at best.

What a graph has to move is counted without the results in between, since caches may keep them; so
the share of the roofline is a lower bound of what the kernels achieve.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from s2svos_engines.registry import gpu_count

SIDE = 1024  # of the square matrices
COPIED = 1 << 27  # bytes; far more than caches hold


class Ceiling:
    """Something that reaches what the processor can, timed among the variants.

    Args:
        name: ``fp32``, ``fp16``, ``int8`` (operations a second) or ``bytes`` (bytes a second), of a
            GPU with ``gpu `` before it.
        work: of one call, operations or bytes.
        call: does it.
    """

    def __init__(self, name: str, work: int, call: Callable[[], object]) -> None:
        self.name, self.work, self._call = name, work, call
        self.rounds: list[list[float]] = []
        for _ in range(3):
            call()

    def measure_round(self) -> None:
        """Three calls."""
        times = []
        for _ in range(3):
            began = time.perf_counter()
            self._call()
            times.append(1000 * (time.perf_counter() - began))
        self.rounds.append(times)

    @property
    def per_second(self) -> float:
        """Of the best call: a ceiling is what is possible, not what is usual."""
        return self.work / min(map(min, self.rounds)) * 1000


def ceilings(threads: int) -> list[Ceiling]:
    """Measure the processor's ceilings, with as many threads as the engines take.

    int8 is ONNX Runtime's MatMulInteger, which may fall short of another engine's kernels.
    """
    product = 2 * SIDE**3
    return [
        Ceiling("fp32", product, _matmul("MatMul", np.dtype(np.float32), threads)),
        Ceiling("int8", product, _matmul("MatMulInteger", np.dtype(np.uint8), threads)),
        Ceiling("bytes", 2 * COPIED, _copy(threads)),
    ]


def _matmul(operator: str, dtype: np.dtype[np.generic], threads: int) -> Callable[[], object]:
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper

    rng = np.random.default_rng(0)
    integer = dtype == np.uint8
    left = rng.integers(0, 127, (SIDE, SIDE)).astype(dtype)
    right = rng.integers(-63, 63, (SIDE, SIDE)).astype(np.int8 if integer else dtype)
    kind, result = (TensorProto.UINT8, TensorProto.INT32) if integer else (TensorProto.FLOAT,) * 2
    # The right matrix is a constant, as weights are, so that kernels may pack it once.
    graph = helper.make_graph(
        [helper.make_node(operator, ["left", "right"], ["out"])],
        operator,
        [helper.make_tensor_value_info("left", kind, [SIDE, SIDE])],
        [helper.make_tensor_value_info("out", result, [SIDE, SIDE])],
        [onnx.numpy_helper.from_array(right, "right")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    # Threads that spin afterwards would slow whoever comes next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])
    return lambda: session.run(None, {"left": left})


def gpu_ceilings() -> list[Ceiling]:
    """Measure the GPU's, by PyTorch; none where it sees no GPU. fp32 is without TF32."""
    if not gpu_count():
        return []
    import torch

    if not torch.cuda.is_available():
        return []
    side, copied = 8192, 1 << 30
    integer = torch.ones(side, side, dtype=torch.int8, device="cuda")
    single, half = integer.float(), integer.half()
    source = torch.ones(copied, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    calls: dict[str, tuple[int, Callable[[], object]]] = {
        "gpu fp32": (2 * side**3, lambda: single @ single),
        "gpu fp16": (2 * side**3, lambda: half @ half),
        # cuBLAS wants the second matrix by columns.
        "gpu int8": (2 * side**3, lambda: torch._int_mm(integer, integer.t())),
        "gpu bytes": (2 * copied, lambda: target.copy_(source)),
    }

    def finished(call: Callable[[], object]) -> Callable[[], object]:
        def run() -> None:
            call()
            torch.cuda.synchronize()

        return run

    return [Ceiling(name, work, finished(call)) for name, (work, call) in calls.items()]


def _copy(threads: int) -> Callable[[], object]:
    pool = ThreadPoolExecutor(threads)
    sources = np.array_split(np.ones(COPIED, np.uint8), threads)
    targets = np.array_split(np.empty(COPIED, np.uint8), threads)
    return lambda: list(pool.map(np.copyto, targets, sources))
