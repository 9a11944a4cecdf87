"""A gRPC server that serves a model repository as Triton's sequence batcher is documented to.

It reads ``config.pbtxt`` with Triton's own protobuf, keeps the implicit state, sets START, and runs
the model with ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.grpc.model_config_pb2 import DataType, ModelConfig

Arrays = dict[str, NDArray[Any]]
DTYPES = {"TYPE_BOOL": np.bool_, "TYPE_UINT8": np.uint8, "TYPE_FP32": np.float32}


class Refused(Exception):
    """What Triton would answer in the place of a result."""


def dtype_of(data_type: int) -> Any:
    """NumPy's type for one of Triton's."""
    return DTYPES[DataType.Name(data_type)]


def open_session(model: bytes | Path) -> ort.InferenceSession:
    """One thread: sums in one order, so that masks can be compared bit by bit."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    source = model if isinstance(model, bytes) else str(model)
    return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


class SequenceBatcher:
    """One version of a model with the state of its sequences."""

    def __init__(self, config: ModelConfig, session: ort.InferenceSession) -> None:
        self.config, self.session = config, session
        self.states: dict[int, Arrays] = {}

    def infer(self, inputs: Arrays, sequence: int, *, start: bool, end: bool) -> Arrays:
        """Runs a request of a sequence."""
        batching = self.config.sequence_batching
        if not start and sequence not in self.states:
            raise Refused("must specify the START flag on the first request of the sequence")
        if start:
            if len(self.states) >= batching.oldest.max_candidate_sequences:
                raise Refused("would wait until another sequence ends")
            self.states[sequence] = {
                state.input_name: np.zeros(state.initial_state[0].dims, dtype_of(state.data_type))
                for state in batching.state
            }
        self._check(inputs)
        (control,) = batching.control_input
        flag = np.array([control.control[0].bool_false_true[start]])
        feed = {**inputs, **self.states[sequence], control.name: flag}
        names = [output.name for output in self.session.get_outputs()]
        outputs = dict(zip(names, self.session.run(names, feed), strict=True))
        for state in batching.state:
            self.states[sequence][state.input_name] = outputs[state.output_name]
        if end:
            del self.states[sequence]
        return {output.name: outputs[output.name] for output in self.config.output}

    def _check(self, inputs: Arrays) -> None:
        known = {one.name: one for one in self.config.input}
        for one in self.config.input:
            if one.name not in inputs and not one.optional:
                raise Refused(f"expected input {one.name}")
        for name, value in inputs.items():
            if name not in known:
                raise Refused(f"unexpected inference input {name}")
            dims = known[name].dims
            fits = len(dims) == value.ndim and all(
                d in (-1, size) for d, size in zip(dims, value.shape, strict=True)
            )
            if not fits or value.dtype != dtype_of(known[name].data_type):
                raise Refused(f"unexpected shape or type for input {name}: {value.shape}")


class Servicer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """The calls of Triton's service that a client of a sequence makes."""

    def __init__(self, repository: Path) -> None:
        self.models: dict[str, dict[str, SequenceBatcher]] = {}
        for path in repository.glob("*/config.pbtxt"):
            config = text_format.Parse(path.read_text(), ModelConfig())
            versions = sorted(
                path.parent.glob("*/model.onnx"), key=lambda one: int(one.parent.name)
            )
            self.models[config.name] = {
                one.parent.name: SequenceBatcher(config, open_session(one))
                for one in versions[-config.version_policy.latest.num_versions :]
            }

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        """Inputs and outputs, less the states and START."""
        if request.name not in self.models:
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model '{request.name}'")
        versions = self.models[request.name]
        config = next(iter(versions.values())).config
        response = service_pb2.ModelMetadataResponse(
            name=config.name, versions=versions, platform="onnxruntime_onnx"
        )
        for ours, theirs in ((config.input, response.inputs), (config.output, response.outputs)):
            for one in ours:
                datatype = DataType.Name(one.data_type).removeprefix("TYPE_")
                theirs.add(name=one.name, datatype=datatype, shape=one.dims)
        return response

    def ModelStreamInfer(self, requests: Iterator[Any], context: Any) -> Iterator[Any]:
        """One answer a request, in order."""
        for request in requests:
            try:
                yield service_pb2.ModelStreamInferResponse(infer_response=self._infer(request))
            except Refused as error:
                yield service_pb2.ModelStreamInferResponse(error_message=str(error))

    def _infer(self, request: Any) -> Any:
        versions = self.models[request.model_name]
        batcher = versions[request.model_version or max(versions, key=int)]
        inputs = {
            one.name: np.frombuffer(raw, DTYPES[f"TYPE_{one.datatype}"]).reshape(one.shape)
            for one, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        outputs = batcher.infer(
            inputs,
            request.parameters["sequence_id"].int64_param,
            start=request.parameters["sequence_start"].bool_param,
            end=request.parameters["sequence_end"].bool_param,
        )
        response = service_pb2.ModelInferResponse(model_name=request.model_name, id=request.id)
        for name, value in outputs.items():
            response.outputs.add(name=name, datatype="UINT8", shape=value.shape)
            response.raw_output_contents.append(value.tobytes())
        return response


@contextmanager
def serve(repository: Path) -> Iterator[tuple[str, Servicer]]:
    """Serves a repository; yields the address."""
    servicer = Servicer(repository)
    server = grpc.server(
        ThreadPoolExecutor(2), options=[("grpc.max_receive_message_length", 1 << 26)]
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}", servicer
    finally:
        server.stop(0).wait()
