"""ONNX Runtime on an NVIDIA GPU, by its providers for CUDA and for TensorRT.

Written without a GPU: what is bound when and where is tested with ONNX Runtime's CPU provider on a
stand-in for the GPU. No GPU has run it.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Any

import numpy as np
import onnxruntime as ort

from s2svos_engines.bundle import Bundle
from s2svos_engines.cuda.device import CudaStream, out_of_memory
from s2svos_engines.cuda.engine import Arrays, CudaEngine
from s2svos_engines.engine import CompileCache
from s2svos_engines.errors import UserError
from s2svos_engines.files import cache_folder

ort.disable_telemetry_events()  # which its builds for Windows send

Provider = tuple[str, dict[str, str]]


class OnnxRuntimeCudaEngine(CudaEngine):
    """One session a graph; the object count is free.

    All runners compute on one stream, since a session has one. They are not captured: ONNX Runtime
    keeps a CUDA graph of its own for as long as the session lives, for every runner that ever was.

    Args:
        bundle: with the graphs.
        threads: of what ONNX Runtime computes on the processor: shapes.
        precision: of the graphs; fp32 is not cut to TF32.

    Raises:
        UserError: there is no GPU, or ONNX Runtime cannot use it.
    """

    name = "onnxruntime-cuda"
    captures = False

    def __init__(self, bundle: Bundle, *, threads: int, precision: str = "fp32") -> None:
        super().__init__(bundle, precision=precision)
        self._graphs = bundle.graphs(precision)
        self._stream = self.gpu.stream()
        self._options = ort.SessionOptions()
        self._options.intra_op_num_threads = threads
        self._options.log_severity_level = 3
        self._no_wait = ort.RunOptions()
        self._no_wait.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._sessions: CompileCache[ort.InferenceSession] = CompileCache()
        self._running = Lock()
        for graph in ("init", "step"):
            self._session(graph)

    @property
    def providers(self) -> list[Provider]:
        """Execution providers with their options; what one cannot run falls to the next."""
        shared = {"device_id": "0", "user_compute_stream": str(self._stream.handle)}
        return [("CUDAExecutionProvider", {**shared, "use_tf32": "0"})]

    def stream(self) -> CudaStream:
        """Return the one stream of all runners."""
        return self._stream

    def bind(self, graph: str, stream: CudaStream, *sets: Arrays) -> list[Callable[[], None]]:
        """Bind the addresses of each set of arrays."""
        session, interface = self._session(graph), self.contract.interface(graph)

        def start(arrays: Arrays) -> Callable[[], None]:
            binding = session.io_binding()
            for bind, specs in (
                (binding.bind_input, interface.inputs),
                (binding.bind_output, interface.outputs),
            ):
                for spec in specs:
                    # By keyword: the two methods order these arguments differently.
                    bind(
                        name=spec.name,
                        device_type="cuda",
                        device_id=0,
                        element_type=np.dtype(spec.dtype).type,
                        shape=arrays[spec].shape,
                        buffer_ptr=arrays[spec].address,
                    )
            return lambda: self._run(session, binding)

        return [start(arrays) for arrays in sets]

    def _run(self, session: ort.InferenceSession, binding: Any) -> None:
        try:
            with self._running:  # a session has one stream, so its runs must not overlap
                session.run_with_iobinding(binding, self._no_wait)
        except Exception as error:  # ONNX Runtime's errors have no public type
            if "allocate memory" not in str(error) and "out of memory" not in str(error):
                raise
            raise out_of_memory("ONNX Runtime") from error

    def _session(self, graph: str) -> ort.InferenceSession:
        return self._sessions.get(graph, lambda: self._make_session(graph))

    def _make_session(self, graph: str) -> ort.InferenceSession:
        providers = self.providers
        model = self._graphs.pop(graph)()
        session = ort.InferenceSession(model, self._options, providers=providers)
        # Without its libraries ONNX Runtime takes the processor, and says so in a log.
        if session.get_providers()[0] != providers[0][0]:
            raise UserError(
                f"ONNX Runtime {ort.__version__} cannot load its {providers[0][0]}",
                'install what it needs with pip install "s2svos[gpu]", or choose another --engine',
            )
        return session


class OnnxRuntimeTensorRtEngine(OnnxRuntimeCudaEngine):
    """The same by the provider for TensorRT, which compiles a graph for every new set of sizes.

    Its compiled engines are cached for this user; nodes that TensorRT does not take, CUDA runs.
    """

    name = "onnxruntime-tensorrt"

    @property
    def providers(self) -> list[Provider]:
        """Execution providers with their options; what one cannot run falls to the next."""
        (cuda,) = super().providers
        kept = cache_folder() / "onnxruntime-tensorrt"
        options = {
            "device_id": "0",
            "user_compute_stream": str(self._stream.handle),
            # Types are the graph's; these permit TensorRT 10 what the graph asks for.
            "trt_fp16_enable": str(self.precision == "fp16"),
            "trt_int8_enable": str(self.precision == "int8"),
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(kept),
        }
        return [("TensorrtExecutionProvider", options), cuda]
