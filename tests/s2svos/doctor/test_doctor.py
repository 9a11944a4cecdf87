"""The doctor: simulated ailments, and real engines, one of which is broken."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import s2svos
from s2svos.doctor import engines, gpu
from s2svos.doctor import system as machine
from s2svos.doctor import system as packages
from s2svos.doctor.engines import Failure, Trial, TrialRunner
from s2svos.doctor.finding import Finding, State
from s2svos.doctor.gpu import Driver
from s2svos.doctor.self_test import Result
from s2svos_engines import cpu
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.tensorrt.plans import Target


def run_doctor(
    folder: Path, *arguments: str, path: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """The real command, with ``path`` before all other packages."""
    places = [str(path) if path else "", os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    return subprocess.run(
        [sys.executable, "-m", "s2svos", "doctor", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
        env=environment,
    )


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The bundle that ships in one precision, which is quicker."""
    bundle = Bundle.open(s2svos.default_bundle())
    path = tmp_path_factory.mktemp("bundle") / "fp32.s2s"
    graphs = {name: bundle.graph(name) for name in ("init", "step")}
    write_bundle(path, contract=bundle.contract, graphs={"fp32": graphs}, facts={})
    return str(path)


def by_topic(report: str) -> dict[str, dict[str, Any]]:
    return {finding["topic"]: finding for finding in json.loads(report)["findings"]}


def test_it_finds_nothing_wrong_here(tmp_path: Path) -> None:
    run = run_doctor(tmp_path)
    assert run.returncode == 0, run.stdout + run.stderr
    lines = {line[6:].split("  ")[0].strip(): line for line in run.stdout.splitlines()}
    assert "the reference" in lines["onnxruntime fp32"]
    assert "IoU" in lines["openvino fp32"]
    assert lines["Python"].startswith("ok")
    assert lines["bundle"].startswith("ok")
    assert run.stdout.endswith("No problems.\n")
    assert not list(tmp_path.iterdir())


def test_a_broken_engine_is_a_finding(tmp_path: Path, fp32: str) -> None:
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").write_text("raise RuntimeError('undefined symbol: x')")
    run = run_doctor(tmp_path, "--json", "--bundle", fp32, path=tmp_path)
    assert run.returncode == 1
    assert "Traceback" not in run.stdout + run.stderr
    found = by_topic(run.stdout)
    broken = found["openvino fp32"]
    assert broken["state"] == "problem"
    assert "RuntimeError: undefined symbol: x" in broken["text"]
    assert broken["remedy"] == 'pip install --force-reinstall "openvino"'
    works = found["onnxruntime fp32"]
    assert works["state"] == "ok"
    assert works["figures"]["frames"] == 10
    assert works["figures"]["iou_with_truth"] > 0.8
    assert json.loads(run.stdout)["problems"] == 1


def test_a_crash_is_a_finding_and_another_engine_the_reference(tmp_path: Path, fp32: str) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os, signal; os.kill(os.getpid(), 11)")
    run = run_doctor(tmp_path, "--json", "--bundle", fp32, path=tmp_path)
    found = by_topic(run.stdout)
    assert found["onnxruntime fp32"]["text"] == "crashed with SIGSEGV"
    assert found["openvino fp32"]["state"] == "ok"
    assert "the reference" in found["openvino fp32"]["text"]


def test_a_missing_desktop_library_is_explained(tmp_path: Path) -> None:
    message = "libGL.so.1: cannot open shared object file"
    (tmp_path / "cv2.py").write_text(f"raise ImportError('{message}')")
    run = run_doctor(tmp_path, "--json", path=tmp_path)
    assert run.returncode == 1
    assert "Traceback" not in run.stdout + run.stderr
    findings = [one for one in json.loads(run.stdout)["findings"] if one["state"] == "problem"]
    assert [one["topic"] for one in findings] == ["opencv-python-headless"]
    assert "libGL" in findings[0]["text"]
    assert "pip uninstall -y opencv-python" in findings[0]["remedy"]
    assert by_topic(run.stdout)["engines"]["state"] == "info"


def test_a_bundle_that_is_none_is_a_finding(tmp_path: Path) -> None:
    (tmp_path / "x.s2s").write_text("no bundle")
    run = run_doctor(tmp_path, "--json", "--bundle", "x.s2s")
    assert run.returncode == 1
    finding = by_topic(run.stdout)["bundle"]
    assert "x.s2s is not a bundle or is damaged" in finding["text"]
    assert finding["remedy"] == "copy or export it again"


# Packages


def installed(monkeypatch: pytest.MonkeyPatch, versions: dict[str, str], *wanted: str) -> None:
    """Simulates what is installed, and what s2svos asks for."""

    def version(name: str) -> str:
        if name not in versions:
            raise PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(packages, "version", version)
    monkeypatch.setattr(packages, "requires", lambda name: list(wanted))


def problems(found: list[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.state is State.PROBLEM]


def test_old_and_missing_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, {"av": "12.1", "rich": "14.0"}, "av>=14", "rich>=13.7", "numpy>=1.26")
    old, rich, missing = packages.examine_packages()
    assert (old.state, old.text) == (State.PROBLEM, "av 12.1 is installed, >=14 is needed")
    assert old.remedy == 'pip install -U "av>=14"'
    assert (rich.state, rich.text) == (State.OK, "14.0")
    assert (missing.state, missing.text) == (State.PROBLEM, "not installed")
    assert missing.remedy == 'pip install "numpy>=1.26"'


def test_extras_may_be_missing_but_not_old(monkeypatch: pytest.MonkeyPatch) -> None:
    other = "win32" if os.name == "posix" else "linux"
    wanted = (
        f'pywin>=1; sys_platform == "{other}" and extra == "train"',
        *('onnxruntime>=1.20; extra == "cpu"', 'openvino>=2025.0; extra == "cpu"'),
        *('torch>=2.8; extra == "train"', 'ruff>=0.11; extra == "dev"'),
    )
    installed(monkeypatch, {"onnxruntime": "1.32.0", "openvino": "2024.6.0"}, *wanted)
    cpu, train = packages.examine_packages()
    assert cpu.state is State.PROBLEM
    assert cpu.text == "openvino 2024.6.0 is installed, >=2025.0 is needed"
    assert train.state is State.INFO
    assert train.text == "not installed: torch"
    assert train.remedy == 'pip install "s2svos[train]"'


def test_onnxruntime_beside_onnxruntime_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, {"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"})
    (finding,) = packages.examine_packages()
    assert finding.state is State.PROBLEM
    assert "onnxruntime and onnxruntime-gpu" in finding.text
    assert finding.remedy == (
        'pip uninstall -y onnxruntime onnxruntime-gpu && pip install "s2svos[gpu]"'
    )


def test_the_gpu_build_takes_the_place_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch, {"onnxruntime-gpu": "1.32.0"}, 'onnxruntime>=1.20; extra == "cpu"')
    (finding,) = packages.examine_packages()
    assert finding.state is State.INFO
    assert "pip install" not in finding.remedy


def test_opencv_beside_its_headless_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"opencv-python": "4.10", "opencv-python-headless": "4.12"}
    installed(monkeypatch, both)
    (finding,) = packages.examine_packages()
    assert finding.remedy == (
        "pip uninstall -y opencv-python-headless opencv-python && "
        'pip install "opencv-python-headless"'
    )
    installed(monkeypatch, {"opencv-python": "4.10"}, "opencv-python-headless>=4.10")
    (finding,) = packages.examine_packages()
    assert finding.state is State.PROBLEM
    assert finding.remedy == (
        'pip uninstall -y opencv-python && pip install "opencv-python-headless>=4.10"'
    )


def test_an_old_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.platform, "python_version", lambda: "3.10.4")
    (finding,) = packages.examine_python()
    assert finding.state is State.PROBLEM
    assert ">=3.11" in finding.text


# Machine


def test_features_of_processors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    monkeypatch.setattr(cpu, "_CPUINFO", info)
    for text, has in (
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", ["AVX2", "AVX-512", "VNNI for int8"]),
        ("Features\t: fp asimddp bf16 i8mm\n", ["bf16", "dot product for int8"]),
        ("nothing : of this\n", []),
    ):
        info.write_text(text)
        (finding,) = machine.examine_processor()
        assert finding.figures["features"] == has


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "50000", "cpu/cpu.cfs_period_us": "100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({}, None),
    ],
)
def test_a_containers_share_of_the_cores(
    files: dict[str, str], quota: float | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cpu, "_CGROUP", tmp_path)
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda process: {0, 1, 2, 3})
    (finding,) = machine.examine_cores()
    assert finding.figures["quota"] == quota
    assert finding.figures["usable"] == 4
    assert ("--threads 1 " in finding.remedy) == (quota is not None)


def test_a_pyav_without_h264(monkeypatch: pytest.MonkeyPatch) -> None:
    (finding,) = machine.examine_encoder()
    assert finding.state is State.OK
    monkeypatch.setattr("av.codecs_available", {"mpeg4"})
    (finding,) = machine.examine_encoder()
    assert finding.state is State.PROBLEM
    assert "overlay.mp4" in finding.text


# GPU


def fake_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    command = folder / "nvidia-smi"
    command.write_text(f"#!/bin/sh\n{script}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_what_nvidia_smi_says_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "gpu_count", lambda: 1)
    monkeypatch.setattr(gpu, "_cuda_of_driver", lambda: (13, 0))
    fake_nvidia_smi(tmp_path, monkeypatch, 'echo "NVIDIA L4, 23034, 8.9, 580.65.06"')
    driver = gpu.read_driver()
    expected = dict(zip(gpu.QUERY, ("NVIDIA L4", "23034", "8.9", "580.65.06"), strict=True))
    assert driver == Driver(1, (13, 0), (expected,))
    monkeypatch.setattr(gpu, "nvidia_packages", lambda: {"tensorrt": "11.0", "cuda-core": "1.2"})
    found = {finding.topic: finding for finding in gpu.examine_gpu(driver)}
    assert not problems(list(found.values()))
    for word in ("NVIDIA L4", "8.9", "580.65.06", "13.0"):
        assert word in found["GPU"].text

    fake_nvidia_smi(tmp_path, monkeypatch, "echo 'could not talk to the driver'; exit 9")
    (problem,) = problems(list(gpu.examine_gpu(gpu.read_driver())))
    assert "could not talk to the driver" in problem.text
    assert problem.remedy


def test_no_gpu_is_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "nvidia_packages", lambda: {})
    found = list(gpu.examine_gpu(Driver(0, None)))
    assert [finding.state for finding in found] == [State.INFO] * 3


@pytest.mark.parametrize(
    ("driver", "installed_packages", "words"),
    [
        (Driver(1, (12, 4)), {"nvidia-cuda-runtime": "13.2.86", "tensorrt": "11.0"}, "CUDA 13"),
        (
            Driver(0, (13, 0), (dict.fromkeys(gpu.QUERY, "x"),)),
            {"tensorrt": "11.0"},
            "CUDA_VISIBLE_DEVICES",
        ),
    ],
)
def test_ailments_of_gpus(
    driver: Driver,
    installed_packages: dict[str, str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gpu, "nvidia_packages", lambda: installed_packages)
    (problem,) = problems(list(gpu.examine_gpu(driver)))
    assert words in problem.remedy


# Engines


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> TrialRunner:
    bundle = Bundle.open(s2svos.default_bundle())
    return TrialRunner(bundle, tmp_path_factory.mktemp("bench"), steps=12)


def result(masks: Any) -> Result:
    return Result(masks, np.linspace(1, 12, 12), 0.5)


def test_masks_that_differ_are_a_problem(bench: TrialRunner) -> None:
    truth = bench._truth
    reference = ("onnxruntime fp32", truth)
    trial = Trial("openvino", "fp32", 12)
    good = bench.compare(trial, result(truth.copy()), reference)
    assert good.state is State.OK
    assert good.figures["mean"] == good.figures["iou_with_truth"] == 1
    assert good.figures["milliseconds"]["max"] == 12
    drifting = truth.copy()
    drifting[6:] = np.roll(drifting[6:], 20, axis=3)
    bad = bench.compare(trial, result(drifting), reference)
    assert bad.state is State.PROBLEM
    assert bad.figures["mean"] < 0.98
    assert bad.figures["least_frame"] > 6
    assert bad.figures["course"][1] == 1
    assert "--engine" in bad.remedy
    assert bench.compare(trial, result(truth.copy()), None).state is State.PROBLEM


def test_a_precision_may_differ_as_much_as_the_export_measured(bench: TrialRunner) -> None:
    bundle = bench._bundle
    parity = {"int8": {"mean_iou": 0.95}, "fp32": {"mean_iou": 1.0}}
    bench._bundle = replace(bundle, manifest=replace(bundle.manifest, facts={"parity": parity}))
    assert bench._least("int8") == pytest.approx(0.93)
    assert bench._least("fp32") == pytest.approx(0.98)
    assert bench._least("fp16") == pytest.approx(0.96)
    bench._bundle = bundle


def test_what_a_user_can_mend_is_said_as_it_is(bench: TrialRunner) -> None:
    failure = bench.run(Trial("onnxruntime", "fp17", 12))
    assert isinstance(failure, Failure)
    assert "not fp17" in failure.text
    assert "--precision" in failure.remedy


# TensorRT, on a stand-in for it and for the GPU: what the doctor does there, not that it works


@pytest.fixture
def tensorrt_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT seems to be installed, and to work in the processes of the self-tests."""
    (tmp_path / "tensorrt.py").write_text("")
    (tmp_path / "sitecustomize.py").write_text(STAND_IN)
    places = [str(tmp_path), str(STAND_INS), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, places)))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(engines, "GPU_STEPS", 12)
    monkeypatch.setattr(engines, "installed_engines", lambda: ["onnxruntime", "tensorrt"])


STAND_INS = Path(__file__).parents[2] / "support"
STAND_IN = """
import sys
if "s2svos.doctor.self_test" in sys.orig_argv and "tensorrt" in sys.orig_argv:
    import gpu_stand_in, tensorrt_stand_in as stand_in
    from s2svos_engines.cuda import engine as cuda_engine
    from s2svos_engines.tensorrt import plan_cache
    from s2svos_engines.tensorrt import builder as tensorrt_builder
    from s2svos_engines.tensorrt import engine as tensorrt_engine
    for module in (tensorrt_builder, tensorrt_engine):
        module.load_library = lambda name: stand_in.Library
    cuda_engine.Gpu = gpu_stand_in.Gpu
    tensorrt_engine.library_log = lambda name: None
    plan_cache.build_target = lambda name: stand_in.TARGET
    plan_cache.build_plan = lambda model, *_, **__: model
    sys.modules.update(gpu_stand_in.MODULES)
"""


def test_tensorrt_builds_its_plan_and_is_compared(tensorrt_here: None, fp32: str) -> None:
    said: list[str] = []
    bundle = Bundle.open(Path(fp32))
    found = {one.topic: one for one in engines.examine_engines(bundle, gpu="9.0", log=said.append)}
    assert said == ["testing onnxruntime fp32 (1 of 2)", "testing tensorrt fp32 (2 of 2)"]
    proof = found["tensorrt fp32"]
    assert proof.state is State.OK, proof.text
    assert proof.figures["frames"] == found["onnxruntime fp32"].figures["frames"] == 12
    assert proof.figures["course"].keys() == {1, 10}
    assert proof.figures["mean"] > 0.999
    assert list(proof.figures["milliseconds"]) == ["p50", "p90", "p99", "max"]


def test_a_gpu_without_tensorrt_is_a_problem(fp32: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_run", lambda *_: ())
    bundle = Bundle.open(Path(fp32))
    here = ["onnxruntime"]
    monkeypatch.setattr(engines, "installed_engines", lambda: here)
    (problem,) = problems(list(engines.examine_engines(bundle, gpu="9.0", log=print)))
    assert problem.remedy == 'pip install "s2svos[tensorrt]"'
    assert not problems(list(engines.examine_engines(bundle, gpu=None, log=print)))
    here = ["tensorrt"]
    (problem,) = problems(list(engines.examine_engines(bundle, gpu="9.0", log=print)))
    assert problem.remedy == 'pip install "s2svos[cpu]"'


def test_tensorrt_rtx_is_not_asked_of_gpus_that_it_does_not_serve(
    fp32: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target("tensorrt-rtx", "1.7", ("8.6", "8.9"))
    monkeypatch.setattr(engines, "build_target", lambda library: target)
    monkeypatch.setattr(engines, "installed_engines", lambda: ["onnxruntime", "tensorrt-rtx"])
    ran: list[Trial] = []
    monkeypatch.setattr(engines, "_run", lambda bundle, trials, say: ran.extend(trials) or ())
    bundle = Bundle.open(Path(fp32))
    found = list(engines.examine_engines(bundle, gpu="9.0", log=print))
    (told,) = [one for one in found if one.topic == "tensorrt-rtx"]
    assert told.state is State.INFO
    assert "compute capability 9.0" in told.text
    assert ran == [Trial("onnxruntime", "fp32", 10)]
    ran.clear()
    list(engines.examine_engines(bundle, gpu="8.9", log=print))
    assert ran == [Trial("onnxruntime", "fp32", 300), Trial("tensorrt-rtx", "fp32", 300)]
