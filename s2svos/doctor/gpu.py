"""NVIDIA's GPU, driver, CUDA and TensorRT."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import distributions

from s2svos.doctor.finding import Finding, State
from s2svos_engines.registry import gpu_count

QUERY = ("name", "memory.total", "compute_cap", "driver_version")


@dataclass(frozen=True)
class Driver:
    """What the driver tells.

    Args:
        usable: GPUs that CUDA offers to this process.
        cuda: newest version of CUDA that the driver runs; None without a driver.
        gpus: for each GPU its name, memory in MiB, compute capability and driver version, by the
            names of :data:`QUERY`.
        error: what nvidia-smi says where it fails; None where it works or is not there.
    """

    usable: int
    cuda: tuple[int, int] | None
    gpus: tuple[dict[str, str], ...] = ()
    error: str | None = None

    @property
    def capability(self) -> str | None:
        """Compute capability of the first GPU, empty if not known; None without a usable GPU."""
        if not self.usable:
            return None
        return self.gpus[0]["compute_cap"] if self.gpus else ""


def read_driver() -> Driver:
    """Asks libcuda and nvidia-smi; needs no package."""
    usable, cuda = gpu_count(), _cuda_of_driver()
    command = shutil.which("nvidia-smi")
    if not command:
        return Driver(usable, cuda)
    asked = [command, f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits"]
    try:
        run = subprocess.run(asked, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        return Driver(usable, cuda, error=str(error))
    if run.returncode:
        said = " ".join((run.stdout + run.stderr).split())
        return Driver(usable, cuda, error=said or f"exit code {run.returncode}")
    rows = [[word.strip() for word in line.split(",")] for line in run.stdout.splitlines()]
    gpus = tuple(dict(zip(QUERY, row, strict=True)) for row in rows if len(row) == len(QUERY))
    return Driver(usable, cuda, gpus)


def examine_gpu(driver: Driver) -> Iterator[Finding]:
    """Examine the GPUs, CUDA and TensorRT; whether they work, the engines show."""
    if not driver.usable and not driver.gpus and not driver.error:
        text = "no NVIDIA GPU with a driver is here; engines run on the processor"
        yield Finding("GPU", State.INFO, text)
    else:
        yield from _gpus(driver)
    packages = nvidia_packages()
    yield from _cuda(driver, packages)
    yield _tensorrt(packages)


def nvidia_packages() -> dict[str, str]:
    """Versions of the installed distributions of CUDA's runtime and of TensorRT."""
    wanted = ("cuda-bindings", "cuda-core", "nvidia-cuda-runtime", "tensorrt")
    found = ((one.name.lower().replace("_", "-"), one.version) for one in distributions())
    return {name: version for name, version in sorted(found) if name.startswith(wanted)}


def _gpus(driver: Driver) -> Iterator[Finding]:
    if driver.error:
        yield Finding(
            "GPU",
            State.PROBLEM,
            f"nvidia-smi fails: {driver.error}",
            "Reboot if the driver was upgraded; otherwise install the driver again.",
        )
        return
    if not driver.usable:
        yield Finding(
            "GPU",
            State.PROBLEM,
            f"nvidia-smi lists {len(driver.gpus)} GPUs, but CUDA offers this process none",
            "Unset CUDA_VISIBLE_DEVICES; in a container, start it with --gpus all and "
            "-e NVIDIA_DRIVER_CAPABILITIES=compute,utility.",
        )
        return
    cuda = ".".join(map(str, driver.cuda or ("unknown",)))
    for gpu in driver.gpus:
        text = (
            f"{gpu['name']}, {gpu['memory.total']} MiB, compute capability {gpu['compute_cap']}, "
            f"driver {gpu['driver_version']}, which runs CUDA up to {cuda}"
        )
        yield Finding("GPU", State.OK, text, figures={**gpu, "cuda": cuda})
    if not driver.gpus:
        text = f"{driver.usable} for this process; the driver runs CUDA up to {cuda}"
        remedy = "Put nvidia-smi on the PATH to see which."
        yield Finding("GPU", State.OK, text, remedy, {"cuda": cuda})


def _cuda(driver: Driver, packages: dict[str, str]) -> Iterator[Finding]:
    runtimes = {name: one for name, one in packages.items() if not name.startswith("tensorrt")}
    text = ", ".join(f"{name} {one}" for name, one in runtimes.items()) or "no package of it"
    # cuda-core is not numbered as CUDA is.
    newest = max(
        (int(one.partition(".")[0]) for name, one in runtimes.items() if name != "cuda-core"),
        default=0,
    )
    if driver.cuda and newest > driver.cuda[0]:
        yield Finding(
            "CUDA",
            State.PROBLEM,
            f"{text}; the driver runs CUDA up to {driver.cuda[0]}.{driver.cuda[1]}",
            f"Upgrade the NVIDIA driver to one for CUDA {newest}, or install the packages for "
            f"CUDA {driver.cuda[0]}.",
            runtimes,
        )
    else:
        yield Finding("CUDA", State.INFO, text, figures=runtimes)


def _tensorrt(packages: dict[str, str]) -> Finding:
    here = {name: one for name, one in packages.items() if name.startswith("tensorrt")}
    text = ", ".join(f"{name} {one}" for name, one in here.items())
    return Finding("TensorRT", State.INFO, text or "not installed", figures=here)


def _cuda_of_driver() -> tuple[int, int] | None:
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)):
        return None
    return version.value // 1000, version.value % 1000 // 10
