"""PyTorch on an NVIDIA GPU: the same graphs as the reference, captured as CUDA graphs.

Written without a GPU: that nothing in a graph waits for the GPU or copies from the host, which a
capture forbids, is tested on PyTorch's meta device. No GPU has run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.backends import cudnn

from s2svos_engines.backends.torch import Programs
from s2svos_engines.bundle import Bundle
from s2svos_engines.cuda.device import CudaStream, DeviceArray, no_collection, out_of_memory
from s2svos_engines.cuda.engine import Arrays, CudaEngine
from s2svos_engines.errors import UserError

DEVICE = torch.device("cuda", 0)


class TorchCudaEngine(CudaEngine):
    """Convolutions by cuDNN, channels last, which is what its half precision kernels want.

    Args:
        bundle: with the graphs.
        threads: of the processor, not heeded.
        precision: of the graphs; fp32 is not cut to TF32.

    Raises:
        UserError: there is no GPU, PyTorch cannot use it, or a graph holds an operator that is not
            known there.
    """

    name = "torch-cuda"

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        super().__init__(bundle, precision=precision)
        if not torch.cuda.is_available():
            raise UserError(
                f"PyTorch {torch.__version__} cannot use the GPU here",
                "install its CUDA build with pip install torch, or choose --engine "
                "onnxruntime-cuda or tensorrt",
            )
        self._programs = Programs(bundle, precision, DEVICE)
        self._pools: WeakKeyDictionary[CudaStream, Any] = WeakKeyDictionary()

    def bind(self, graph: str, stream: CudaStream, *sets: Arrays) -> list[Callable[[], None]]:
        """Return functions that run a graph node by node and copy its outputs into the arrays."""
        current = torch.cuda.ExternalStream(stream.handle)  # type: ignore[no-untyped-call]
        interface = self.contract.interface(graph)

        def start(arrays: Arrays) -> Callable[[], None]:
            tensors = {spec: _tensor(array) for spec, array in arrays.items()}
            inputs = [tensors[spec] for spec in interface.inputs]
            outputs = [tensors[spec] for spec in interface.outputs]

            def run() -> None:
                with _computing(current):
                    found = self._programs.run(graph, inputs)
                    for place, value in zip(outputs, found, strict=True):
                        place.copy_(value)

            return run

        return [start(arrays) for arrays in sets]

    def capture(self, stream: CudaStream, work: Callable[[], None]) -> Callable[[], None]:
        """Capture with PyTorch, whose allocator must know what memory the graph goes on to use."""
        current = torch.cuda.ExternalStream(stream.handle)  # type: ignore[no-untyped-call]
        # Even and odd calls, one after the other, can do with the same memory.
        pool = self._pools.setdefault(stream, torch.cuda.graph_pool_handle())
        graph = torch.cuda.CUDAGraph()
        with (
            no_collection(),
            torch.cuda.graph(graph, pool, current, capture_error_mode="thread_local"),
        ):
            work()

        def launch() -> None:
            with torch.cuda.stream(current):
                graph.replay()

        return launch


def _tensor(array: DeviceArray) -> torch.Tensor:
    """Return a tensor that shares an array's memory."""
    return torch.as_tensor(array, device=DEVICE)


@contextmanager
def _computing(stream: torch.cuda.Stream) -> Iterator[None]:
    try:
        with (
            torch.inference_mode(),
            torch.cuda.stream(stream),
            cudnn.flags(enabled=True, benchmark=True, allow_tf32=False),
        ):
            yield
    except torch.OutOfMemoryError as error:
        raise out_of_memory("PyTorch") from error
