"""ONNX Runtime on the CPU."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from s2svos_engines.bundle import Bundle
from s2svos_engines.contract import OBJECTS, TensorSpec
from s2svos_engines.engine import States


class OnnxRuntimeEngine:
    """One session a graph; the object count is free."""

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        self.contract = bundle.contract
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        self._init, self.step_session = (
            ort.InferenceSession(bundle.graph(name), options, providers=["CPUExecutionProvider"])
            for name in ("init", "step")
        )

    def init(self, frame: NDArray[np.uint8], first_masks: NDArray[np.uint8]) -> States:
        """The state of objects that enter on ``frame``."""
        contract = self.contract
        names = [spec.name for spec in contract.init_outputs]
        inputs = {contract.frame.name: frame, contract.first_masks.name: first_masks}
        states: States = self._init.run(names, inputs)
        return states

    def cell(self, states: States) -> OnnxRuntimeCell:
        """A cell that starts from a copy of ``states``."""
        return OnnxRuntimeCell(self, states)


class OnnxRuntimeCell:
    """Two bindings over two sets of state buffers: what one writes the other reads."""

    def __init__(self, engine: OnnxRuntimeEngine, states: States) -> None:
        contract = engine.contract
        objects = len(states[0])

        def array(spec: TensorSpec) -> NDArray[np.generic]:
            shape = [objects if d == OBJECTS else int(d) for d in spec.shape]
            return np.empty(shape, spec.dtype)

        self._session = engine.step_session
        self._frame = array(contract.frame)
        self._masks = array(contract.object_masks)
        self._buffers = [[array(state.input) for state in contract.states] for _ in range(2)]
        for buffer, value in zip(self._buffers[0], states, strict=True):
            buffer[...] = value
        self._bindings = []
        for before, after in (self._buffers, self._buffers[::-1]):
            binding = self._session.io_binding()
            inputs = zip(contract.step_inputs, (self._frame, *before), strict=True)
            outputs = zip(contract.step_outputs, (self._masks, *after), strict=True)
            for bind, pairs in ((binding.bind_input, inputs), (binding.bind_output, outputs)):
                for spec, value in pairs:
                    # By keyword: the two methods order these arguments differently.
                    bind(
                        name=spec.name,
                        device_type="cpu",
                        device_id=0,
                        element_type=value.dtype.type,
                        shape=value.shape,
                        buffer_ptr=value.ctypes.data,
                    )
            self._bindings.append(binding)
        self._now = 0

    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Probabilities times 255, uint8 [N, H, W], valid until the next step."""
        self._frame[...] = frame
        self._session.run_with_iobinding(self._bindings[self._now])
        self._now = 1 - self._now
        return self._masks  # type: ignore[return-value]

    def states(self) -> States:
        """The current state; valid until the next step."""
        return self._buffers[self._now]
