"""Calls that no machine here can run are checked against TensorRT 11's own bindings."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGINES = ROOT / "engines" / "s2svos_engines"
CHECKED = [
    *sorted((ENGINES / "tensorrt").glob("*.py")),
    *sorted((ENGINES / "cuda").glob("*.py")),
]

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(sys.platform != "linux", reason="the bindings' wheel is for Linux"),
]


@pytest.fixture(scope="module", autouse=True)
def stubs() -> None:
    """make writes them; this is for those who call pytest themselves."""
    stub = Path(sysconfig.get_path("purelib")) / "tensorrt-stubs" / "__init__.pyi"
    if not stub.is_file():
        subprocess.run([sys.executable, ROOT / "scripts" / "gpu_stubs.py"], check=True)


def mypy(*files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mypy", *map(str, files)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def test_every_call_to_tensorrt_and_cuda() -> None:
    assert len(CHECKED) >= 8
    done = mypy(*CHECKED)
    assert done.returncode == 0, done.stdout


def test_the_stubs_know_what_tensorrt_11_lacks(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "import tensorrt as trt\n"
        "from cuda.core import Device\n"
        "def build(builder: trt.Builder, config: trt.IBuilderConfig, device: Device) -> None:\n"
        "    config.set_flag(trt.BuilderFlag.FP16)\n"
        "    builder.platform_has_fast_fp16\n"
        "    builder.create_network('strongly typed')\n"
        "    trt.Runtime()\n"
        "    device.allocate(256)\n"
    )
    complaints = [line for line in mypy(file).stdout.splitlines() if ": error: " in line]
    assert [int(line.split(":")[1]) for line in complaints] == [4, 5, 6, 7, 8]
