"""ONNX graph to plan, with TensorRT or TensorRT-RTX.

Types live in the graph: TensorRT 11 and TensorRT-RTX take them from there always, TensorRT 10 is
told to. So a graph of any precision is built in the same way.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Lock
from typing import TYPE_CHECKING, Any, SupportsInt

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from s2svos_engines.contract import Counts, StepContract
from s2svos_engines.cuda.device import Gpu
from s2svos_engines.errors import UserError
from s2svos_engines.files import cache_folder, write_atomically
from s2svos_engines.tensorrt.library import LIBRARIES, LOG, library_log, load_library, parser_errors
from s2svos_engines.tensorrt.plans import Target

if TYPE_CHECKING:
    import tensorrt

MAX_OBJECTS = 8  # memory of a running plan grows with it
USUAL_OBJECTS = 2  # for which the kernels are chosen

_building = Lock()  # kernels are timed: two builds at once would disturb each other


def build_target(library: str) -> Target:
    """Return the target of a plan that is built here.

    TensorRT builds for the GPU at hand. TensorRT-RTX needs none: it compiles for every generation
    that it serves but Turing, which has no kernels for some of the graphs in fp32.

    Raises:
        UserError: the library is missing or too old, or TensorRT has no GPU here.
    """
    trt: Any = load_library(library)
    if library == "tensorrt":
        return running_target(library, Gpu())
    names = [name for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    numbers = sorted(int(name.removeprefix("SM")) for name in names if name != "SM75")
    capabilities = tuple(f"{number // 10}.{number % 10}" for number in numbers)
    return Target(library, trt.__version__, capabilities)


def running_target(library: str, gpu: Gpu) -> Target:
    """Return the library, GPU and driver that are here to run a plan."""
    version = load_library(library).__version__
    return Target(library, version, (gpu.compute_capability,), gpu.name, gpu.driver)


def build_plan(
    model: bytes,
    contract: StepContract,
    graph: str,
    target: Target,
    *,
    title: str,
    max_objects: int = MAX_OBJECTS,
    log_path: Path | None = None,
) -> bytes:
    """Compile a graph. Shows progress where the error stream is a terminal.

    Args:
        model: ONNX.
        contract: its interface.
        graph: ``init``, ``step`` or ``stepT``.
        target: from :func:`build_target`.
        title: what is built, for the user.
        max_objects: how many objects the plan follows at most.
        log_path: of the build log; None for one in the user's cache folder.

    Raises:
        UserError: the library refuses the graph; says at which node, why and what to do.
        KeyboardInterrupt: after the step of the build that was under way.
    """
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = load_library(target.library)
    library = LIBRARIES[target.library].title
    log_path = log_path or _log_path(target, title)
    with _building, _build_log(log_path) as errors:
        log = library_log(target.library)
        builder = trt.Builder(log)
        network = builder.create_network(_network_flags(target))
        parser = trt.OnnxParser(network, log)
        if not parser.parse(model):
            raise UserError(
                f"{library} {target.version} refuses {title}; the whole log is {log_path}."
                f"{parser_errors(parser)}"
            )
        config = builder.create_builder_config()
        config.clear_flag(trt.BuilderFlag.TF32)  # 10 bits of mantissa are not fp32
        if target.library == "tensorrt-rtx":
            _set_compute_capabilities(trt, config, target)
        profile = builder.create_optimization_profile()
        for spec in contract.interface(graph).inputs:
            if any(isinstance(size, str) for size in spec.shape):
                usual = min(USUAL_OBJECTS, max_objects)
                counts = (
                    Counts(1),
                    Counts(usual, entries=1, streams=usual),
                    Counts(max_objects, entries=max_objects, streams=max_objects),
                )
                profile.set_shape(spec.name, *(trt.Dims(spec.sizes(one)) for one in counts))
        config.add_optimization_profile(profile)
        with _timing_cache(target, config):
            plan = _build(builder, network, config, target.library, title)
        if plan is None:
            raise UserError(
                f"{library} {target.version} cannot build {title}; the whole log is {log_path}."
                + "".join(f"\n  {error}" for error in errors)
            )
        return bytes(plan)


def _network_flags(target: Target) -> int:
    """Types are taken from the graph; only TensorRT 10 has to be told."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = load_library(target.library)
    ten = target.library == "tensorrt" and target.version.startswith("10.")
    return 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if ten else 0


def _set_compute_capabilities(trt: Any, config: Any, target: Target) -> None:
    # Any: TensorRT's bindings, for which the stubs are, lack these calls.
    config.num_compute_capabilities = len(target.compute_capabilities)
    for index, capability in enumerate(target.compute_capabilities):
        member = trt.ComputeCapability.__members__[f"SM{capability.replace('.', '')}"]
        config.set_compute_capability(member, index)


def _build(
    builder: tensorrt.Builder,
    network: tensorrt.INetworkDefinition,
    config: tensorrt.IBuilderConfig,
    library: str,
    title: str,
) -> tensorrt.IHostMemory | None:
    cancelled = Event()
    with _progress(title) as progress, ThreadPoolExecutor(1) as pool:
        monitor = _monitor(library, progress, cancelled)  # must outlive the build
        config.progress_monitor = monitor
        # In a thread, since Ctrl-C does not interrupt the library, but interrupts who waits.
        build = pool.submit(builder.build_serialized_network, network, config)
        try:
            wait([build])
        except KeyboardInterrupt:
            cancelled.set()
            raise
        return build.result()


def _progress(title: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn(title),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def _monitor(library: str, progress: Progress, cancelled: Event) -> tensorrt.IProgressMonitor:
    """Show a bar for each phase under way, and end the build once ``cancelled`` is set."""
    if TYPE_CHECKING:
        import tensorrt as trt
    else:
        trt = load_library(library)

    class Monitor(trt.IProgressMonitor):
        # Raising here, in a callback from C++, would end the process: unknown phases are ignored.
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.bars: dict[str, TaskID] = {}

        def phase_start(
            self, phase_name: str, parent_phase: str | None, num_steps: SupportsInt
        ) -> None:
            self.bars[phase_name] = progress.add_task(phase_name, total=int(num_steps))

        def step_complete(self, phase_name: str, step: SupportsInt) -> bool:
            if phase_name in self.bars:
                progress.update(self.bars[phase_name], completed=int(step) + 1)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            if phase_name in self.bars:
                progress.remove_task(self.bars.pop(phase_name))

    return Monitor()


@contextmanager
def _timing_cache(target: Target, config: tensorrt.IBuilderConfig) -> Iterator[None]:
    """Reuse the kernel timings of earlier builds on this GPU."""
    if target.library == "tensorrt-rtx":  # times no kernels; the calls do nothing since 1.2
        yield
        return
    path = cache_folder() / f"{_slug(target)}.timing"
    cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
    config.set_timing_cache(cache, ignore_mismatch=False)
    yield
    write_atomically(path, bytes(config.get_timing_cache().serialize()), shared=True)


@contextmanager
def _build_log(path: Path) -> Iterator[list[str]]:
    """Keep the library's log in a file; yields the errors in it."""
    errors: list[str] = []

    class Errors(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            errors.append(record.getMessage())

    path.parent.mkdir(parents=True, exist_ok=True)
    file = logging.FileHandler(path, mode="w", encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handlers = (file, Errors(logging.ERROR))
    for handler in handlers:
        LOG.addHandler(handler)
    before = LOG.level, LOG.propagate
    LOG.setLevel(logging.INFO)  # one level below, a build writes megabytes
    LOG.propagate = False  # onnxruntime.quantization has the root logger print this level
    try:
        yield errors
    finally:
        LOG.setLevel(before[0])
        LOG.propagate = before[1]
        for handler in handlers:
            LOG.removeHandler(handler)
        file.close()


def _log_path(target: Target, title: str) -> Path:
    return cache_folder() / "logs" / f"{_slug(target)}-{re.sub(r'[^A-Za-z0-9.]+', '-', title)}.log"


def _slug(target: Target) -> str:
    words = f"{target.library} {target.version} {target.gpu or 'portable'}"
    return re.sub(r"[^A-Za-z0-9.]+", "-", words)
