"""The variants that are timed: our engines, the bare engine call, and loops that users write.

Peers run as their documentation has them: default options, a dictionary of NumPy arrays each
frame. ``onnxruntime run`` is RobustVideoMatting's loop for the CPU, whose states go through the
host; ``onnxruntime bind`` is its loop for the GPU, which binds anew every frame.


The network in PyTorch, as one would run it without exporting it."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from s2svos_engines.arrays import States
from s2svos_engines.batch_runner import together
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_engines.registry import GPU_ENGINES, gpu_count, load_engine
from s2svos_engines.states import counts

if TYPE_CHECKING:
    from s2svos_engines.bundle import Bundle


Pictures = NDArray[np.uint8]
OURS, BARE, PEER = "s2svos", "bare", "peer"
REFERENCE = ("onnxruntime", "fp32")  # whose graphs the export compared with PyTorch


class Loop(Protocol):
    """Follows objects a frame at a time."""

    def restart(self) -> None:
        """Go back to the first frame's state."""
        ...

    def step(self, frame: Pictures) -> Pictures:
        """Follow one frame: uint8 [H, W, 3] to uint8 [N, H, W]."""
        ...


@dataclass(frozen=True)
class Variant:
    """One row of the results.

    Args:
        name: the engine for ours, after ``batched`` or ``in turn`` where streams are not each in a
            thread of its own; ``bare ENGINE``, or the peer's name.
        kind: ``s2svos``, ``bare`` or ``peer``.
        precision: of the graphs, or in which a peer computes with the fp32 graphs.
        objects: that are followed.
        streams: that are followed: each in a thread of its own, or all in a step of the loop.
    """

    name: str
    kind: str
    precision: str
    objects: int = 1
    streams: int = 1

    @property
    def engine(self) -> str:
        """Name of the engine of ours, or of the bare call."""
        return self.name.split()[-1]

    @property
    def in_one_loop(self) -> bool:
        """Whether a step of its loop is one of every stream."""
        return self.name != self.engine and self.kind == OURS


def runs_on_gpu(variant: Variant) -> bool:
    """Return whether a variant computes on the GPU here; peers do where their package can."""
    if not gpu_count():
        return False
    if variant.name.startswith("torch"):
        import torch

        return torch.cuda.is_available()
    if variant.kind == PEER and variant.name.startswith("onnxruntime"):
        import onnxruntime as ort

        return "CUDAExecutionProvider" in ort.get_available_providers()
    return variant.engine in GPU_ENGINES


class VariantFactory:
    """Makes loops; engines and sessions are shared by the loops of a precision.

    Args:
        bundle: checked.
        threads: of our engines and of PyTorch; peers take their defaults.
        checkpoint: of the network that PyTorch's peers run; None runs the bundle's graphs, with
            BatchNorm folded, which is faster than the network as trained.
    """

    def __init__(self, bundle: Bundle, *, threads: int, checkpoint: Path | None = None) -> None:
        self.bundle, self.threads, self.checkpoint = bundle, threads, checkpoint
        self._engines: dict[tuple[str, str], Engine] = {}
        self._sessions: dict[str, Any] = {}

    def engine(self, name: str, precision: str) -> Engine:
        """Return one of our engines."""
        if (name, precision) not in self._engines:
            self._engines[name, precision] = load_engine(
                self.bundle, name, precision=precision, threads=self.threads
            )
        return self._engines[name, precision]

    def loop(self, variant: Variant, frame: Pictures, masks: Pictures) -> Loop:
        """Make a loop whose state is that of ``frame`` and ``masks``, uint8 [N, H, W].

        Raises:
            UserError, RuntimeError, ImportError: this machine cannot run it.
        """
        if variant.kind == OURS:
            engine = self.engine(variant.engine, variant.precision)
            states = engine.init(frame, masks)
            if not variant.in_one_loop:
                return EngineLoop(engine, states)
            if variant.name.startswith("batched"):
                return BatchedLoop(self.bundle, engine, states, variant.streams)
            return InTurnLoop([EngineLoop(engine, states) for _ in range(variant.streams)])
        states = [np.array(x) for x in self.engine(*REFERENCE).init(frame, masks)]
        bundle, precision = self.bundle, variant.precision
        makers: dict[str, Callable[[], Loop]] = {
            "bare openvino": lambda: BareOpenVino(self.engine("openvino", precision), states),
            "bare onnxruntime": lambda: BareOnnxRuntime(
                self.engine("onnxruntime", precision), states
            ),
            "onnxruntime run": lambda: RunLoop(bundle, self._session(precision), states),
            "onnxruntime bind": lambda: BindLoop(bundle, self._session(precision), states),
            "openvino infer": lambda: InferLoop(bundle, precision, states),
            "torch eager": lambda: self._torch(states, precision, compiled=False),
            "torch compile": lambda: self._torch(states, precision, compiled=True),
        }
        return makers[variant.name]()

    def clear(self) -> None:
        """Free all but the reference, which every group needs."""
        self._engines = {key: engine for key, engine in self._engines.items() if key == REFERENCE}
        self._sessions.clear()
        gc.collect()

    def _session(self, precision: str) -> Any:
        import onnxruntime as ort

        if precision not in self._sessions:
            providers = ort.get_available_providers()
            wanted = [
                p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in providers
            ]
            model = self.bundle.graph("step", precision=precision)
            self._sessions[precision] = ort.InferenceSession(model, providers=wanted)
        return self._sessions[precision]

    def _torch(self, states: States, precision: str, *, compiled: bool) -> Loop:
        return TorchLoop(
            self.bundle,
            states,
            self.checkpoint,
            precision=precision,
            threads=self.threads,
            compiled=compiled,
        )


class EngineLoop:
    """A runner of an engine."""

    def __init__(self, engine: Engine, states: States) -> None:
        self._first = [np.array(state) for state in states]
        self._runner = engine.runner(self._first)

    def restart(self) -> None:
        """Go back to the first frame's state."""
        self._runner.load(self._first)

    def step(self, frame: Pictures) -> Pictures:
        """Follow one frame: uint8 [H, W, 3] to uint8 [N, H, W]."""
        return self._runner.step(frame)


class BatchedLoop:
    """A frame of every stream, in one call or at the same time, as ``step_many`` does it.

    Raises:
        UserError: the bundle has no graph for it.
    """

    def __init__(self, bundle: Bundle, engine: Engine, states: States, streams: int) -> None:
        if not (engine.parallel or engine.batches):
            raise UserError("the bundle has no batch graph; export it with --batch")
        first = [np.array(state) for state in states]
        self._new = functools.partial(together, engine, [first] * streams)
        self._streams = streams
        self.restart()

    def restart(self) -> None:
        """Go back to the first frame's state."""
        self._batch = self._new()

    def step(self, frame: Pictures) -> Pictures:
        """Return the masks of the last stream, all of which see the same."""
        return self._batch.step([frame] * self._streams)[-1]


class InTurnLoop:
    """A frame of one stream after the other, in one thread."""

    def __init__(self, loops: list[EngineLoop]) -> None:
        self._loops = loops

    def restart(self) -> None:
        """Go back to the first frame's state."""
        for loop in self._loops:
            loop.restart()

    def step(self, frame: Pictures) -> Pictures:
        """Return the masks of the last stream, all of which see the same."""
        return [loop.step(frame) for loop in self._loops][-1]


class BareOpenVino:
    """Our compiled graph on tensors that stay as they are: no frame comes, no state goes on."""

    def __init__(self, engine: Engine, states: States) -> None:
        from s2svos_engines.backends.openvino import OpenVinoEngine

        assert isinstance(engine, OpenVinoEngine)
        contract = engine.contract
        sizes = counts(contract, states)
        self._request = engine.graphs.full("step", sizes).create_infer_request()
        self._frame = self._request.get_tensor(contract.frame.name)
        self._masks = self._request.get_tensor(contract.object_masks.name)
        for spec, value in zip(contract.states, states, strict=True):
            self._request.get_tensor(spec.input.name).data[:] = value
        self._empty = True

    def restart(self) -> None:
        """Take the next frame again."""
        self._empty = True

    def step(self, frame: Pictures) -> Pictures:
        """Return the masks of the first ``frame`` since the restart."""
        if self._empty:
            self._frame.data[:] = frame
            self._empty = False
        self._request.infer()
        masks: Pictures = self._masks.data
        return masks


class BareOnnxRuntime:
    """Our session on buffers that stay as they are."""

    def __init__(self, engine: Engine, states: States) -> None:
        from s2svos_engines.backends.onnxruntime import OnnxRuntimeEngine, bind_arrays

        assert isinstance(engine, OnnxRuntimeEngine)
        self._session, interface = engine.session("step"), engine.contract.interface("step")
        frame, *_ = interface.inputs
        sizes = counts(engine.contract, states)
        self._frame = np.zeros(frame.sizes(sizes), np.uint8)
        outputs = [np.empty(spec.sizes(sizes), spec.dtype) for spec in interface.outputs]
        self._masks, self._kept = outputs[0], [*states, *outputs]
        inputs = (self._frame, *states)
        self._binding = bind_arrays(self._session, interface, inputs, outputs)
        self._empty = True

    def restart(self) -> None:
        """Take the next frame again."""
        self._empty = True

    def step(self, frame: Pictures) -> Pictures:
        """Return the masks of the first ``frame`` since the restart."""
        if self._empty:
            self._frame[...] = frame
            self._empty = False
        self._session.run_with_iobinding(self._binding)
        return self._masks


class RunLoop:
    """``masks, *states = session.run(None, {...})``."""

    def __init__(self, bundle: Bundle, session: Any, states: States) -> None:
        self._names = [spec.name for spec in bundle.contract.step_inputs]
        self._outputs = [spec.name for spec in bundle.contract.step_outputs]
        self._session, self._first = session, states
        self.restart()

    def restart(self) -> None:
        """Go back to the first frame's state."""
        self._states = list(self._first)

    def step(self, frame: Pictures) -> Pictures:
        """Follow one frame: uint8 [H, W, 3] to uint8 [N, H, W]."""
        inputs = dict(zip(self._names, (frame, *self._states), strict=True))
        masks, *self._states = self._session.run(self._outputs, inputs)
        result: Pictures = masks
        return result


class BindLoop:
    """Outputs that the runtime allocates on the device, bound again as the next inputs."""

    def __init__(self, bundle: Bundle, session: Any, states: States) -> None:
        self._contract, self._session, self._first = bundle.contract, session, states
        self._device = "cuda" if "CUDAExecutionProvider" in session.get_providers() else "cpu"
        self.restart()

    def restart(self) -> None:
        """Go back to the first frame's state."""
        import onnxruntime as ort

        value = ort.OrtValue.ortvalue_from_numpy
        self._states = [value(np.ascontiguousarray(x), self._device, 0) for x in self._first]

    def step(self, frame: Pictures) -> Pictures:
        """Follow one frame: uint8 [H, W, 3] to uint8 [N, H, W]."""
        binding = self._session.io_binding()
        binding.bind_cpu_input(self._contract.frame.name, frame)
        for spec, state in zip(self._contract.states, self._states, strict=True):
            binding.bind_ortvalue_input(spec.input.name, state)
        for output in self._contract.step_outputs:
            binding.bind_output(output.name, self._device)
        self._session.run_with_iobinding(binding)
        masks, *self._states = binding.get_outputs()
        result: Pictures = masks.numpy()
        return result


class InferLoop:
    """``results = compiled([frame, *states])``, static in the number of objects."""

    def __init__(self, bundle: Bundle, precision: str, states: States) -> None:
        from s2svos_engines.backends.openvino_graphs import CORE, has_bf16
        from s2svos_engines.backends.openvino_library import ov

        hint, graphs = "f32", precision
        if precision == "bf16":
            if not has_bf16():
                raise RuntimeError("this processor has no bfloat16")
            hint, graphs = "bf16", "fp32"
        model = CORE.read_model(bundle.graph("step", precision=graphs), b"")
        shapes = {
            spec.name: ov.PartialShape([*spec.sizes(counts(bundle.contract, states))])
            for spec in bundle.contract.step_inputs
        }
        model.reshape(shapes)
        self._compiled = CORE.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": hint})
        self._inputs = [spec.name for spec in bundle.contract.step_inputs]
        self._outputs = [spec.name for spec in bundle.contract.step_outputs]
        self._first = states
        self.restart()

    def restart(self) -> None:
        """Go back to the first frame's state."""
        self._states = list(self._first)

    def step(self, frame: Pictures) -> Pictures:
        """Follow one frame: uint8 [H, W, 3] to uint8 [N, H, W]."""
        results = self._compiled(dict(zip(self._inputs, (frame, *self._states), strict=True)))
        masks, *self._states = (results[name] for name in self._outputs)
        result: Pictures = masks
        return result


class TorchLoop:
    """``masks, *states = network.step(frame, *states)``; the state stays on the device.

    Args:
        bundle: whose graphs are run where there is no checkpoint.
        states: of the first frame.
        checkpoint: that s2svos train wrote.
        precision: to compute in, fp32 or fp16.
        threads: of the processor.
        compiled: by torch.compile.

    Raises:
        UserError: the checkpoint is of another network than the bundle, or is missing to compile.
    """

    def __init__(
        self,
        bundle: Bundle,
        states: States,
        checkpoint: Path | None,
        *,
        precision: str,
        threads: int,
        compiled: bool,
    ) -> None:
        if compiled and checkpoint is None:
            # It breaks the interpreter of a bundle's graphs into pieces and gives up on most.
            raise UserError("torch.compile needs the network itself", "give its --checkpoint")
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._first = [torch.tensor(state).to(self._device) for state in states]
        step = _step(bundle, checkpoint, precision, self._device)
        self._step = torch.compile(step) if compiled else step
        self.restart()

    def restart(self) -> None:
        """Go back to the first frame's state."""
        self._states = list(self._first)

    @torch.inference_mode()
    def step(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Follow one frame: uint8 [H, W, 3] to uint8 [N, H, W]."""
        masks, *self._states = self._step(torch.from_numpy(frame).to(self._device), *self._states)
        result: NDArray[np.uint8] = masks.cpu().numpy()
        return result


def _step(
    bundle: Bundle, checkpoint: Path | None, precision: str, device: torch.device
) -> Callable[..., Sequence[Tensor]]:
    if checkpoint is None:
        from s2svos_engines.backends.torch import Programs

        programs = Programs(bundle, precision, device)
        return lambda *inputs: programs.run("step", inputs)
    from s2svos.network.checkpoint import load_network

    size = (bundle.contract.height, bundle.contract.width)
    network = load_network(checkpoint, size=size)
    if network.contract != bundle.contract:
        raise UserError(f"{checkpoint} is of another network than {bundle.path}", "give its own")
    network = network.to(device)
    return (network.half() if precision == "fp16" else network).step
