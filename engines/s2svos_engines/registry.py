"""Which engines there are, which of them can run here, and how one is loaded. Needs no NumPy."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import sys
from typing import TYPE_CHECKING, NamedTuple, cast

from s2svos_engines.cpu import cpu_count
from s2svos_engines.errors import UserError, graph_errors, is_out_of_memory

if TYPE_CHECKING:
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.engine import Engine


class _Entry(NamedTuple):
    module: str
    class_name: str
    extra: str  # that installs it
    packages: tuple[tuple[str, ...], ...]  # of each group one must be there
    distribution: str = ""  # which of those that install the same package it must be
    on_gpu: bool = False


# Fastest first. In fp32 the first two take about as long (infer with an overlay ran at 20.4 and
# 21.7 frames/s on two busy AVX-512 cores), but OpenVINO alone computes in bf16, and gains by int8.
# Those of the GPU are last, so that they have to be asked for: they were written without one, and
# TensorRT builds plans for minutes when first used.
ENGINES = {
    "openvino": _Entry("backends.openvino", "OpenVinoEngine", "cpu", (("openvino",),)),
    "onnxruntime": _Entry("backends.onnxruntime", "OnnxRuntimeEngine", "cpu", (("onnxruntime",),)),
    "torch": _Entry("backends.torch", "TorchEngine", "train", (("torch",), ("onnx",))),
    "torch-cuda": _Entry(
        "cuda.torch",
        "TorchCudaEngine",
        "train",
        (("torch",), ("onnx",), ("cuda.core",)),
        on_gpu=True,
    ),
    "onnxruntime-cuda": _Entry(
        "cuda.onnxruntime",
        "OnnxRuntimeCudaEngine",
        "gpu",
        (("onnxruntime",), ("cuda.core",)),
        "onnxruntime-gpu",
        on_gpu=True,
    ),
    "onnxruntime-tensorrt": _Entry(
        "cuda.onnxruntime",
        "OnnxRuntimeTensorRtEngine",
        "gpu",
        (("onnxruntime",), ("cuda.core",)),
        "onnxruntime-gpu",
        on_gpu=True,
    ),
    "tensorrt": _Entry(
        "tensorrt.engine", "TensorRtEngine", "tensorrt", (("tensorrt",),), on_gpu=True
    ),
    "tensorrt-rtx": _Entry(
        "tensorrt.engine",
        "TensorRtRtxEngine",
        "tensorrt-rtx",
        (("tensorrt_rtx", "tensorrt_rtx_bindings"),),
        on_gpu=True,
    ),
}
AUTO = "auto"
MAX_THREADS = 256  # of a step; more would do nothing but wait for each other
GPU_ENGINES = tuple(name for name, entry in ENGINES.items() if entry.on_gpu)
SLOW_ENGINES = ("torch",)
"""To be asked for by name. PyTorch, node by node, is what the others are compared with."""


def installed_engines() -> list[str]:
    """Return the names of the engines whose packages are installed, fastest first."""
    return list(filter(is_installed, ENGINES))


def is_installed(name: str) -> bool:
    """Return whether an engine's packages are installed."""
    entry = ENGINES[name]
    return all(any(map(_importable, group)) for group in entry.packages) and (
        not entry.distribution or _distributed(entry.distribution)
    )


def usable_engines() -> list[str]:
    """Return the names of the installed engines whose processor is here too, fastest first."""
    return list(filter(is_usable, ENGINES))


def is_usable(name: str) -> bool:
    """Return whether an engine is installed, and its processor here."""
    return is_installed(name) and (name not in GPU_ENGINES or gpu_count() > 0)


def gpu_count() -> int:
    """Return how many GPUs the NVIDIA driver offers; 0 without a driver. Needs no package."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int()
    failed = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    return 0 if failed else count.value


def load_engine(
    bundle: Bundle,
    name: str = "auto",
    *,
    precision: str = "fp32",
    threads: int | None = None,
) -> Engine:
    """Load a bundle's graphs on an engine.

    Args:
        bundle: checked bundle.
        name: an engine, or ``auto`` for the fastest that is installed, none of the slow ones.
        precision: of the graphs, one that the bundle has; or ``auto`` for the fastest on this
            processor of those that the bundle's export found to keep the masks.
        threads: processor threads of a step; None for :func:`~s2svos_engines.cpu.cpu_count`.

    Raises:
        UserError: there is no such engine, its package is missing, the bundle lacks the precision,
            or the engine refuses the graphs.
    """
    if threads is not None and (not isinstance(threads, int) or not 1 <= threads <= MAX_THREADS):
        raise UserError(
            f"A step cannot have {threads!r} threads", f"choose a number from 1 to {MAX_THREADS}"
        )
    if name == AUTO:
        fastest = next((one for one in ENGINES if one not in SLOW_ENGINES and is_usable(one)), None)
        if not fastest:
            raise UserError("No engine is installed", 'install one with pip install "s2svos[cpu]"')
        name = fastest
    engine_class = _engine_class(name)
    if engine_class.on_gpu:
        bundle = bundle.for_gpu()
    with graph_errors(f"The graphs of {bundle.path} cannot be run by {name}"):
        if precision == AUTO:
            return _fastest_that_holds(engine_class, bundle, threads or cpu_count())
        return engine_class(bundle, precision=precision, threads=threads or cpu_count())


def engine_variants(bundle: Bundle, name: str, *, precision: str, threads: int) -> list[Engine]:
    """Return an engine once for each arithmetic that another processor may make it choose.

    Raises:
        UserError: as :func:`load_engine`.
    """
    return _engine_class(name).variants(bundle, precision=precision, threads=threads)


def _fastest_that_holds(engine_class: type[Engine], bundle: Bundle, threads: int) -> Engine:
    for precision in engine_class.fast_precisions():
        if precision in bundle.precisions:
            variants = engine_class.variants(bundle, precision=precision, threads=threads)
            # Where the export's processor had no bf16, int8 beside f32: 0.70 of fp32's time.
            for engine in reversed(variants):
                if bundle.manifest.holds(precision, engine.title):
                    return engine
    exact = "fp32" if "fp32" in bundle.precisions else bundle.precisions[0]
    return engine_class(bundle, precision=exact, threads=threads)


def _engine_class(name: str) -> type[Engine]:
    if name not in ENGINES:
        raise UserError(f"There is no engine {name!r}", f"choose auto, {' or '.join(ENGINES)}")
    entry = ENGINES[name]
    remedy = f'pip install "s2svos[{entry.extra}]"'
    if not is_installed(name):
        raise UserError(f"The engine {name} is not installed", f"install it with {remedy}")
    try:
        module = importlib.import_module(f"s2svos_engines.{entry.module}")
    except (ImportError, OSError) as error:  # a package without its library, or of another system
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"The engine {name} is installed but does not load ({error})",
            f"install it anew with pip install --force-reinstall {entry.packages[0][0]}, or "
            "choose another --engine",
        ) from error
    return cast("type[Engine]", getattr(module, entry.class_name))


def _importable(name: str) -> bool:
    parents = [part for part in name.rpartition(".")[:1] if part]
    return all(map(_importable, parents)) and importlib.util.find_spec(name) is not None


def _distributed(name: str) -> bool:
    import importlib.metadata  # for few engines: 30 ms

    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
