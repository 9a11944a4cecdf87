"""The engines of the GPU on a stand-in for it; no GPU is needed, none is proven."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu_stand_in as stand_in
import numpy as np
import onnxruntime as ort
import pytest
import tensorrt_stand_in
import torch
from conformance_bundle import GRAPHS, PRECISIONS, small_bundle
from gpu_stand_in import OnGpu
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks import cuda_graphs
from s2svos.sample.render import render
from s2svos_engines.backends.torch import Programs
from s2svos_engines.bundle import Bundle
from s2svos_engines.closed_loop import mask_iou
from s2svos_engines.contract import Counts
from s2svos_engines.cuda import engine as cuda_engine
from s2svos_engines.cuda import onnxruntime as cuda_onnxruntime
from s2svos_engines.cuda import torch as cuda_torch
from s2svos_engines.cuda.device import CudaStream
from s2svos_engines.cuda.engine import Arrays, CudaEngine
from s2svos_engines.cuda.letterbox import CudaLetterbox
from s2svos_engines.cuda.onnxruntime import OnnxRuntimeCudaEngine, OnnxRuntimeTensorRtEngine
from s2svos_engines.cuda.torch import TorchCudaEngine
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import CudaFrame, Letterbox, Region
from s2svos_engines.registry import load_engine
from s2svos_engines.tensorrt import builder as tensorrt_builder
from s2svos_engines.tensorrt import engine as tensorrt_engine
from s2svos_engines.tensorrt import plan_cache
from s2svos_engines.tensorrt.engine import TensorRtEngine
from s2svos_engines.tracker import Tracker

Array = NDArray[np.uint8]
Clip = list[tuple[Array, Array]]
CLOSE = 0.03  # pixels of an untrained network that change with one level of the frame, at most
LOTS = [(seed, eager) for seed in range(2) for eager in (0.0, 0.5, 0.9)]
needs_compiler = pytest.mark.skipif(
    not stand_in.has_compiler(), reason="no g++ to compile the kernel for the processor"
)


class Session:
    """An InferenceSession of ONNX Runtime whose provider is on the GPU: runs in its stream."""

    def __init__(self, model: bytes, options: object, *, providers: Any) -> None:
        self._names = [name for name, _ in providers]
        (stream,) = {settings["user_compute_stream"] for _, settings in providers}
        self._stream = int(stream)
        self._session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def get_providers(self) -> list[str]:
        return self._names

    def io_binding(self) -> SimpleNamespace:
        binding = self._session.io_binding()

        def on_cpu(bind: Callable[..., None], **arguments: Any) -> None:
            assert arguments.pop("device_type") == "cuda"
            bind(device_type="cpu", **arguments)

        return SimpleNamespace(
            binding=binding,
            bind_input=partial(on_cpu, binding.bind_input),
            bind_output=partial(on_cpu, binding.bind_output),
        )

    def run_with_iobinding(self, bound: SimpleNamespace, options: ort.RunOptions) -> None:
        stand_in.stream_at(self._stream).give(
            lambda: self._session.run_with_iobinding(bound.binding)
        )


class TorchEngine(TorchCudaEngine):
    """PyTorch on the processor, which runs when its turn comes in the stream."""

    def bind(self, graph: str, stream: CudaStream, *sets: Arrays) -> list[Callable[[], None]]:
        give = stand_in.stream_at(stream.handle).give
        return [partial(give, start) for start in super().bind(graph, stream, *sets)]

    capture = CudaEngine.capture


def on_processor(array: Any) -> torch.Tensor:
    size = int(np.prod(array.shape)) * np.dtype(array.dtype).itemsize
    values = stand_in.at(array.address, size).view(array.dtype).reshape(array.shape)
    return torch.from_numpy(values)


ENGINES = {
    "tensorrt": TensorRtEngine,
    "onnxruntime-cuda": OnnxRuntimeCudaEngine,
    "onnxruntime-tensorrt": OnnxRuntimeTensorRtEngine,
    "torch-cuda": TorchEngine,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("gpu") / "small.s2s")


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=12, height=64, width=128))


@pytest.fixture(autouse=True)
def gpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Puts the stand-ins in place."""
    stand_in.draw(0, 0.5)
    for name, module in stand_in.MODULES.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cuda_engine, "Gpu", stand_in.Gpu)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for tensorrt in (tensorrt_builder, tensorrt_engine):
        monkeypatch.setattr(tensorrt, "load_library", lambda name: tensorrt_stand_in.Library)
    monkeypatch.setattr(tensorrt_engine, "library_log", lambda name: None)
    monkeypatch.setattr(plan_cache, "build_target", lambda name: tensorrt_stand_in.TARGET)
    monkeypatch.setattr(plan_cache, "build_plan", lambda model, *_, **__: model)
    runtime = SimpleNamespace(**{**vars(ort), "InferenceSession": Session})
    monkeypatch.setattr(cuda_onnxruntime, "ort", runtime)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda handle: None)
    monkeypatch.setattr(cuda_torch, "_computing", lambda stream: torch.inference_mode())
    monkeypatch.setattr(cuda_torch, "_tensor", on_processor)
    monkeypatch.setattr(cuda_torch, "DEVICE", torch.device("cpu"))


def tracker(bundle: Bundle, name: str, seed: int, eager: float) -> Tracker:
    stand_in.draw(seed, eager)
    return Tracker(bundle, ENGINES[name](bundle, threads=1, precision="fp32"))


@pytest.fixture(scope="module")
def host(bundle: Bundle) -> Tracker:
    return Tracker(bundle, load_engine(bundle, "onnxruntime", threads=1))


def near(a: Array, b: Array) -> bool:
    return a.shape == b.shape and bool(np.mean(a != b) < 2e-3)


def follow(tracker: Tracker, clip: Clip) -> Iterator[Array]:
    """All there is to do with streams: frames alone, several at once, together, objects."""
    (frame, ids), *rest = clip
    first, second = tracker.open(frame, np.where(ids == 1, ids, 0)), tracker.open(frame, ids)
    frames = [frame for frame, _ in rest]
    for frame in frames[:3]:
        yield first.step(frame)
        yield second.step(frame)
    yield from first.steps(frames[3:9])
    second.add(frames[2], np.where(ids == 1, np.uint8(7), np.uint8(0)))
    second.remove(1)
    yield from second.steps(frames[3:8])
    yield from tracker.step_many({first: frames[9], second: frames[8]}).values()
    yield from tracker.step_many({first: frames[10], second: frames[9]}).values()
    yield first.step(frames[0])


@pytest.mark.parametrize("name", ENGINES)
def test_follows_as_the_processor_does_in_whatever_order_the_gpu_works(
    bundle: Bundle, host: Tracker, clip: Clip, name: str
) -> None:
    wanted = list(follow(host, clip))
    for lot in LOTS:
        found = list(follow(tracker(bundle, name, *lot), clip))
        for step, (a, b) in enumerate(zip(found, wanted, strict=True)):
            assert near(a, b), (lot, step)


@pytest.mark.parametrize("what", ["CudaStream.after", "_Call.wait"])
def test_a_missing_wait_is_noticed(
    bundle: Bundle, host: Tracker, clip: Clip, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The test above, on a runner that is broken."""
    wanted = list(follow(host, clip))
    owner, method = what.split(".")
    from s2svos_engines.cuda import device

    broken = {"CudaStream": device, "_Call": cuda_engine}[owner]
    monkeypatch.setattr(getattr(broken, owner), method, lambda *_: None)
    results = [list(follow(tracker(bundle, "tensorrt", *lot), clip)) for lot in LOTS]
    right = [all(map(near, found, wanted)) for found in results]
    assert not all(right)


@pytest.mark.parametrize("name", ENGINES)
def test_a_graph_is_captured_once_for_even_and_once_for_odd_calls(
    bundle: Bundle, clip: Clip, name: str
) -> None:
    stream = tracker(bundle, name, 0, 0.5).open(*clip[0])
    captures = ENGINES[name].captures
    for steps, (frame, _) in enumerate(clip[1:], 1):
        stream.step(frame)
        assert stand_in.lot.captured == (max(0, min(steps - 2, 2)) if captures else 0)
        assert stand_in.lot.launched == (max(0, steps - 2) if captures else 0)


def test_what_fails_while_it_is_captured_leaves_the_stream_usable(
    bundle: Bundle, host: Tracker, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tracker(bundle, "tensorrt", 0, 0.5)
    stream, wanted = made.open(*clip[0]), host.open(*clip[0])
    for frame, _ in clip[1:3]:
        assert near(stream.step(frame), wanted.step(frame))
    with monkeypatch.context() as broken:
        broken.setattr(tensorrt_stand_in.Context, "execute_async_v3", lambda *_: False)
        with pytest.raises(RuntimeError, match="TensorRT refused to run"):
            stream.step(clip[3][0])
    for frame, _ in clip[3:]:
        assert near(stream.step(frame), wanted.step(frame))


def test_two_calls_are_under_way_and_a_third_waits(bundle: Bundle, clip: Clip) -> None:
    engine = tracker(bundle, "tensorrt", 0, 0.0).engine
    frames = [frame for frame, _ in clip]
    first = np.zeros((1, 64, 128), np.uint8)
    first[0, 20:40, 30:60] = 255
    runner = engine.runner(engine.init(frames[0], first))

    def waiting() -> int:
        return sum(len(stream.work) for stream in stand_in.lot.streams)

    takes = [runner.submit([frames[1]]), runner.submit([frames[2]])]
    assert waiting() > 10, "nobody has waited for any of it"
    before = waiting()
    takes.append(runner.submit([frames[3]]))
    assert waiting() < 2 * before, "the first is done, since its arrays are needed"
    takes[2].wait()


@pytest.mark.parametrize("name", ENGINES)
def test_every_way_to_go_from_step_to_step_is_right(bundle: Bundle, clip: Clip, name: str) -> None:
    """The ways that benchmarks/cuda_graphs.py times."""
    engine = tracker(bundle, name, 0, 0.5).engine
    frames = [frame for frame, _ in clip]
    masks = np.uint8(255) * (clip[0][1] == 1)[np.newaxis]
    wanted = cuda_graphs.reference(bundle.path, frames, masks)
    assert isinstance(engine, CudaEngine)
    ways = cuda_graphs.measure(engine, frames, masks, rounds=2)
    assert len(ways) == (4 if engine.captures else 2)
    for way, times, found in ways:
        assert len(times) == 2
        assert mask_iou(np.stack(found), np.stack(wanted)).mean() > 0.999, way


@pytest.mark.parametrize("name", ENGINES)
def test_a_full_gpu_says_what_to_reduce(
    bundle: Bundle, clip: Clip, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = tracker(bundle, name, 0, 0.5)
    monkeypatch.setattr(stand_in.Device, "room", 1 << 14)
    with pytest.raises(UserError, match=r"too little memory for an array of .* fewer objects"):
        made.open(*clip[0])


def test_onnxruntime_without_its_libraries_says_so(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Session, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match=r"cannot load its CUDAExecutionProvider.*s2svos\[gpu\]"):
        tracker(bundle, "onnxruntime-cuda", 0, 0.5)


# Frames on the GPU


def test_cudas_compiler_takes_the_kernel() -> None:
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc")
    source = files("s2svos_engines.cuda").joinpath("letterbox.cu").read_bytes()
    error, program = nvrtc.nvrtcCreateProgram(source, b"letterbox.cu", 0, [], [])
    assert not error
    (error,) = nvrtc.nvrtcCompileProgram(program, 1, [b"--gpu-architecture=sm_90"])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = bytes(size)  # NVRTC writes into it; b" " * 1 would be the b" " of the whole process
    nvrtc.nvrtcGetProgramLog(program, log)
    assert not error, log.decode()


@needs_compiler
@pytest.mark.parametrize(
    "native", [(64, 128), (128, 256), (90, 161), (200, 100), (40, 61), (720, 1280), (257, 1100)]
)
@pytest.mark.parametrize("region", [None, Region(5, 9, 30, 45)])
def test_the_kernel_resizes_as_the_host_does(
    native: tuple[int, int], region: Region | None
) -> None:
    fit = Letterbox.of(native, (64, 128), region)
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (*native, 3), dtype=np.uint8)
    views = [frame, frame[::-1, ::-1], np.ascontiguousarray(frame.transpose(2, 0, 1))]
    views[2] = views[2].transpose(1, 2, 0)
    gpu = stand_in.Gpu()
    for view in views:
        stream: CudaStream = gpu.stream()
        out = np.zeros((64, 128, 3), np.uint8)
        CudaLetterbox(gpu).resize(stream, CudaFrame(OnGpu(view), fit), out.ctypes.data)  # type: ignore[arg-type]
        stream.wait()
        difference = np.abs(out.astype(int) - fit.resize(np.ascontiguousarray(view)))
        assert difference.max() <= 1, "OpenCV rounds weights to 11 bits"


@needs_compiler
@pytest.mark.parametrize("lot", LOTS)
def test_frames_of_both_places_in_one_call(bundle: Bundle, clip: Clip, lot: Any) -> None:
    engine = tracker(bundle, "tensorrt", *lot).engine
    assert isinstance(engine, TensorRtEngine)
    fit = Letterbox.of((64, 128), (64, 128))
    frames = [fit.resize(frame) for frame, _ in clip[:4]]
    mixed = [
        CudaFrame(OnGpu(frame), fit) if place % 2 else frames[place]
        for place, (frame, _) in enumerate(clip[:4])
    ]
    stream = engine.stream()
    pictures = stream.array((4, 64, 128, 3), "uint8")
    engine.upload_frames(stream, pictures, mixed)
    found = pictures.download(stream)
    stream.wait()
    assert np.abs(found.astype(int) - np.stack(frames)).max() <= 1


@needs_compiler
@pytest.mark.parametrize("name", ENGINES)
def test_a_video_on_the_gpu(bundle: Bundle, clip: Clip, name: str) -> None:
    made = tracker(bundle, name, 0, 0.5)
    moved = [OnGpu(frame) for frame, _ in clip]
    from_host, from_gpu = made.open(*clip[0]), made.open(moved[0], clip[0][1])
    for frame, there in zip(clip[1:4], moved[1:4], strict=True):
        assert np.mean(from_host.step(frame[0]) != from_gpu.step(there)) < CLOSE
    wanted, found = (
        stream.steps(list(frames))
        for stream, frames in ((from_host, [f for f, _ in clip[4:]]), (from_gpu, moved[4:]))
    )
    assert np.mean(np.stack(wanted) != np.stack(found)) < CLOSE
    together = made.step_many({from_host: clip[1][0], from_gpu: moved[1]})
    assert np.mean(together[from_host] != together[from_gpu]) < CLOSE


def test_a_frame_on_the_gpu_is_checked_too(bundle: Bundle, clip: Clip) -> None:
    made = tracker(bundle, "tensorrt", 0, 0.5)
    with pytest.raises(UserError, match="A frame is uint8"):
        made.open(OnGpu(clip[0][0].astype(np.float32)), clip[0][1])  # type: ignore[arg-type]
    stream = made.open(*clip[0])
    with pytest.raises(UserError, match="size of its first frame"):
        stream.step(OnGpu(np.zeros((32, 32, 3), np.uint8)))


# What a CUDA graph can hold


class NoCopies(TorchDispatchMode):
    """Notices what a capture forbids: copies between the host and the device."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):  # type: ignore[no-untyped-def]
        made = function(*args, **(kwargs or {}))
        tensors = [x for x in (*args, made) if isinstance(x, torch.Tensor) and x.ndim]
        assert len({x.device for x in tensors}) < 2, f"{function} copies between host and GPU"
        return made


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_pytorch_neither_waits_for_the_gpu_nor_copies_to_it(
    bundle: Bundle, precision: str, graph: str
) -> None:
    """On the meta device, which has no values that Python could read."""
    interface = bundle.contract.interface(graph)
    programs = Programs(bundle.for_gpu(), precision, torch.device("meta"))
    counts = Counts(objects=3, streams=2)
    inputs = [
        torch.empty(spec.sizes(counts), dtype=getattr(torch, spec.dtype), device="meta")
        for spec in interface.inputs
    ]
    programs._program(graph)
    with NoCopies():
        found = programs.run(graph, inputs)
    for spec, value in zip(interface.outputs, found, strict=True):
        assert value.device.type == "meta"
        assert tuple(value.shape) == spec.sizes(counts)


def test_a_copy_is_noticed() -> None:
    with pytest.raises(AssertionError, match="copies between host and GPU"), NoCopies():
        torch.zeros(3).to("meta")
