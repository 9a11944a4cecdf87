"""Type stubs for the GPU libraries, so that mypy checks calls that this machine cannot run.

``tensorrt`` gets stubs generated from its real bindings. Their wheel alone does not import: it is
linked against three libraries that NVIDIA serves elsewhere (2 GB). Three empty ones with the same
names and symbols are enough to import it, and to let pybind11-stubgen read every signature.

``cuda.core`` ships stubs, but where mypy does not look: in ``cuda/core/cu13``, which the package
grafts onto ``cuda.core`` when it is imported. They are copied to the place of stubs.

Both land in site-packages as stub-only packages (PEP 561). Linux only, as the bindings' wheel is.
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

LIBRARIES = ("libnvinfer.so", "libnvinfer_plugin.so", "libnvonnxparser.so")
FUNCTIONS = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
MACHINES = {"x86_64": 62, "aarch64": 183}  # e_machine of ELF


def empty_library(name: str, functions: tuple[str, ...]) -> bytes:
    """Return an ELF shared library whose functions can be linked against, but not called.

    Written by hand, since a machine with Python and make need not have a compiler.

    Args:
        name: its soname.
        functions: names that it exports.

    Returns:
        Header, program headers, symbols, hash table, dynamic section, strings.
    """
    strings = b"\0" + b"".join(text.encode() + b"\0" for text in (name, *functions))
    where = {text: strings.index(b"\0%s\0" % text.encode()) + 1 for text in (name, *functions)}
    symbols = bytes(24)
    for function in functions:  # global functions of section 1 at address 64
        symbols += struct.pack("<IBBHQQ", where[function], 0x12, 0, 1, 64, 0)
    count = len(functions)
    # One bucket, in which every symbol is chained to the next: no name needs hashing.
    table = struct.pack(f"<{4 + count}I", 1, count + 1, 1, 0, *range(2, count + 1), 0)
    table += bytes(-len(table) % 8)
    at_symbols = 64 + 3 * 56
    at_table = at_symbols + len(symbols)
    at_dynamic = at_table + len(table)
    at_strings = at_dynamic + 7 * 16
    entries = {4: at_table, 5: at_strings, 6: at_symbols, 10: len(strings), 11: 24, 14: where[name]}
    dynamic = b"".join(struct.pack("<QQ", *entry) for entry in (*entries.items(), (0, 0)))

    def segment(kind: int, start: int, size: int, align: int) -> bytes:
        return struct.pack("<IIQQQQQQ", kind, 6, start, start, start, size, size, align)

    machine = MACHINES[platform.machine()]
    shape = (3, machine, 1, 0, 64, 0, 0, 64, 56, 3, 0, 0, 0)
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", *shape)
    header += segment(1, 0, at_strings + len(strings), 4096)
    header += segment(2, at_dynamic, len(dynamic), 8)
    header += segment(0x6474E551, 0, 0, 16)  # says that the stack need not be executable
    return header + symbols + table + dynamic + strings


def tensorrt_stub(requirement: str) -> str:
    """Generate the stub of the TensorRT bindings that pip finds for a requirement."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _run("-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:",
             "--target", name, requirement)  # fmt: skip
        major = next(folder.glob("*.dist-info")).name.partition("-")[2].partition(".")[0]
        for library in LIBRARIES:
            soname = f"{library}.{major}"
            # The bindings look beside themselves (RPATH $ORIGIN).
            (folder / "tensorrt_bindings" / soname).write_bytes(empty_library(soname, FUNCTIONS))
        # Not --exit-code: it complains of C++ names, which are mended below.
        _run("-m", "pybind11_stubgen", "tensorrt_bindings.tensorrt",
             "--print-invalid-expressions-as-is", cwd=folder)  # fmt: skip
        return mended((folder / "stubs" / "tensorrt_bindings" / "tensorrt.pyi").read_text())


def mended(stub: str) -> str:
    """Return the stub with valid Python where the bindings' docstrings hold C++."""

    def python_name(match: re.Match[str]) -> str:
        name = match[1]
        known = name if f"class {name}" in stub else name.removeprefix("I")
        return known if f"class {known}" in stub else "typing.Any"

    stub = re.sub(r"\b(?:nvinfer1|nvonnxparser)::(?:\w+::)*(\w+)", python_name, stub)
    stub = re.sub(r"detail::\w+(<[\w:<>]*>)?", "typing.Any", stub)
    stub = re.sub(r"= <[\w.]+: \d+>", "= ...", stub)  # a default of an enumeration
    stub = re.sub(r"\bin: ", "in_: ", stub)  # a keyword as the name of a parameter
    # A parameter without a default after one that has it.
    stub = re.sub(r"(channel_axis: [\w.]+)\)", r"\1 = 0)", stub)
    # What has no signature to read: the buffer protocol, and what the package adds in Python.
    buffer = "    def __buffer__(self, flags: int, /) -> memoryview: ...\n"
    stub = stub.replace("class IHostMemory:\n", f"class IHostMemory:\n{buffer}")
    return f"{stub}\n__version__: str\n"


def copy_cuda_core_stubs(out: Path) -> None:
    """Copy the stubs of the installed ``cuda.core`` to where mypy finds them."""
    spec = importlib.util.find_spec("cuda")
    assert spec and spec.submodule_search_locations
    core = Path(spec.submodule_search_locations[0]) / "core"
    target = out / "cuda-stubs" / "core"
    shutil.rmtree(target, ignore_errors=True)
    files = {path.relative_to(core / "cu13"): path for path in (core / "cu13").rglob("*.py*")}
    for name, path in {**files, Path("__init__.py"): core / "__init__.py"}.items():
        if path.suffix in (".py", ".pyi"):
            to = (target / name).with_suffix(".pyi")
            to.parent.mkdir(parents=True, exist_ok=True)
            # mypy takes an __all__ that is put together from others for an empty one.
            to.write_text(re.sub(r"^__all__ = \[\n( +\*.*\n)+\]", "", path.read_text(), flags=re.M))
    (out / "cuda-stubs" / "py.typed").write_text("partial\n")  # cuda.bindings has none


def _run(*arguments: str, cwd: Path | None = None) -> None:
    done = subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")


def main() -> None:
    """Write both stub packages."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bindings", default="tensorrt-cu13-bindings==11.*", help="for pip")
    parser.add_argument("--out", type=Path, default=Path(sysconfig.get_path("purelib")))
    options = parser.parse_args()
    if sys.platform != "linux" or platform.machine() not in MACHINES:
        print("no stubs here: the bindings' wheels are for Linux on x86-64 and 64-bit Arm")
        return
    stub = tensorrt_stub(options.bindings)
    (options.out / "tensorrt-stubs").mkdir(parents=True, exist_ok=True)
    (options.out / "tensorrt-stubs" / "__init__.pyi").write_text(stub)
    copy_cuda_core_stubs(options.out)


if __name__ == "__main__":
    main()
