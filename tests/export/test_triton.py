"""Model repositories for Triton: its protobuf, the model under its rules, the client over gRPC."""

from __future__ import annotations

import socket
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image
from triton_server import SequenceBatcher, dtype_of, open_session, serve
from tritonclient.grpc.model_config_pb2 import ModelConfig, ModelSequenceBatching

import s2svos
from s2svos.sample.render import render
from s2svos.video.reader import Video
from s2svos.video.writer import VideoWriter
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.contract import StepContract
from s2svos_engines.errors import UserError
from s2svos_engines.letterbox import Letterbox
from s2svos_export.triton import write_model_repository
from s2svos_export.triton.config import parse_config
from s2svos_export.triton.graph import stream_interface

ORT_TYPES = {"tensor(bool)": np.bool_, "tensor(uint8)": np.uint8, "tensor(float)": np.float32}
Clip = list[tuple[NDArray[np.uint8], NDArray[np.uint8]]]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return Bundle.open(s2svos.default_bundle())


@pytest.fixture(scope="module")
def repository(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("triton") / "repository"
    assert write_model_repository(bundle, folder) == folder / "s2svos" / "1"
    return folder


@pytest.fixture(scope="module")
def config(repository: Path) -> ModelConfig:
    return parse_config((repository / "s2svos" / "config.pbtxt").read_text())


@pytest.fixture(scope="module")
def clip() -> Clip:
    return list(render(length=8, height=180, width=320))


def test_the_configuration_is_of_the_model(repository: Path, config: ModelConfig) -> None:
    """What Triton's ONNX Runtime backend checks as it loads a model, and more."""
    assert (config.name, config.backend, config.max_batch_size) == ("s2svos", "onnxruntime", 0)
    session = open_session(repository / "s2svos" / "1" / "model.onnx")
    inputs, outputs = session.get_inputs(), session.get_outputs()
    defaults = session.get_overridable_initializers()
    assert [one.name for one in config.input if one.optional] == [one.name for one in defaults]

    batching = config.sequence_batching
    (control,) = batching.control_input
    (start,) = control.control
    assert start.kind == ModelSequenceBatching.Control.CONTROL_SEQUENCE_START
    assert list(start.bool_false_true) == [False, True]
    expected = {control.name: (np.bool_, [1])}
    expected |= {one.name: (dtype_of(one.data_type), list(one.dims)) for one in config.input}
    expected |= {
        one.input_name: (dtype_of(one.data_type), list(one.dims)) for one in batching.state
    }
    assert {one.name: signature(one) for one in (*inputs, *defaults)} == expected

    expected = {one.name: (dtype_of(one.data_type), list(one.dims)) for one in config.output}
    expected |= {
        one.output_name: (dtype_of(one.data_type), list(one.dims)) for one in batching.state
    }
    assert {one.name: signature(one) for one in outputs} == expected


def signature(value: Any) -> tuple[Any, list[int]]:
    return ORT_TYPES[value.type], [-1 if isinstance(size, str) else size for size in value.shape]


def test_states_start_at_zero_and_cannot_be_swapped(config: ModelConfig, bundle: Bundle) -> None:
    """Triton pairs states by their place among the sorted names (server #8586)."""
    states = config.sequence_batching.state
    assert [one.input_name for one in states] == [s.input.name for s in bundle.contract.states]
    by_input = [s.output_name for s in sorted(states, key=lambda state: state.input_name)]
    assert by_input == sorted(s.output_name for s in states)
    for state in states:
        (initial,) = state.initial_state
        assert initial.zero_data
        assert initial.data_type == state.data_type
        assert list(initial.dims) == [1 if size == -1 else size for size in state.dims]


def test_the_model_is_called_as_the_contract_says(bundle: Bundle, repository: Path) -> None:
    graph = onnx.load(repository / "s2svos" / "1" / "model.onnx").graph
    interface = stream_interface(bundle.contract)
    assert [value.name for value in graph.input] == [spec.name for spec in interface.inputs]
    assert [value.name for value in graph.output] == [spec.name for spec in interface.outputs]


def test_two_streams_in_turn_have_the_trackers_masks(
    repository: Path, config: ModelConfig, bundle: Bundle, clip: Clip
) -> None:
    """One of two objects and one of one, frame by frame in turn, bit by bit as the engine."""
    batcher = SequenceBatcher(config, open_session(repository / "s2svos" / "1" / "model.onnx"))
    engine = s2svos.load(engine="onnxruntime", threads=1).engine
    fit = Letterbox.of(clip[0][0].shape[:2], (bundle.contract.height, bundle.contract.width))
    first = fit.resize(clip[0][0])
    masks = {
        7: np.stack([fit.resize(np.uint8(255) * (clip[0][1] == i)) for i in (1, 2)]),
        9: fit.resize(np.uint8(255) * (clip[0][1] == 2))[None],
    }
    cells = {}
    for sequence, mask in masks.items():
        request = {"frame": first, "first_masks": mask}
        answer = batcher.infer(request, sequence, start=True, end=False)
        assert np.array_equal(answer["object_masks"], mask)
        cells[sequence] = engine.runner(engine.init(first, mask))
    for index, (frame, _) in enumerate(clip[1:], 2):
        for sequence, runner in cells.items():
            small = fit.resize(frame)
            answer = batcher.infer({"frame": small}, sequence, start=False, end=index == len(clip))
            assert np.array_equal(answer["object_masks"], runner.step(small))
            assert (answer["object_masks"] > 127).any()
    assert not batcher.states


@pytest.fixture(scope="module")
def video(clip: Clip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("video")
    rows, columns = clip[0][1].shape
    with VideoWriter(folder / "x.mp4", width=columns, height=rows, rate=Fraction(24)) as writer:
        for frame, _ in clip:
            writer.write(frame)
    picture = Image.fromarray(clip[0][1])
    picture.putpalette([0, 0, 0, 255, 0, 0, 0, 0, 255])
    picture.save(folder / "first.png")
    return folder / "x.mp4"


def client(repository: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, repository / "client.py", *arguments]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=600)


def test_the_client_follows_a_video_over_grpc(
    repository: Path, clip: Clip, video: Path, tmp_path: Path
) -> None:
    with serve(repository) as (address, servicer):
        mask, out = video.with_name("first.png"), tmp_path / "masks"
        run = client(repository, video, "--mask", mask, "--out", out, "--url", address)
        assert run.returncode == 0, run.stderr
        assert not servicer.models["s2svos"]["1"].states, "the sequence was not ended"
    frames = [frame for _, frame in Video(video)]
    assert len(frames) == len(clip) == len(list(out.iterdir()))
    stream = s2svos.load(engine="onnxruntime", threads=1).open(frames[0], clip[0][1])
    for index, frame in enumerate(frames):
        expected = stream.step(frame) if index else clip[0][1]
        with Image.open(out / f"{index:05d}.png") as picture:
            assert picture.mode == "P"
            assert np.array_equal(np.asarray(picture), expected)
    assert set(np.unique(expected)) == {0, 1, 2}


def test_the_client_says_what_went_wrong(repository: Path, video: Path, tmp_path: Path) -> None:
    mask = video.with_name("first.png")
    with serve(repository) as (address, servicer):
        run = client(repository, video, "--mask", mask, "--url", address, "--model", "other")
        assert "unknown model 'other'" in run.stderr
        servicer.models["s2svos"]["1"].config.sequence_batching.oldest.max_candidate_sequences = 0
        refused = client(
            repository, video, "--mask", mask, "--url", address, "--out", tmp_path / "x"
        )
        assert "until another sequence ends" in refused.stderr
    unreachable = client(repository, video, "--mask", mask, "--url", address)
    for one in (run, refused, unreachable):
        assert one.returncode == 1
        assert "Traceback" not in one.stderr


def other_bundle(folder: Path, bundle: Bundle, contract: StepContract) -> Bundle:
    """The same network under another title."""
    graphs = {}
    for name in ("init", "step"):
        model = onnx.load_model_from_string(bundle.graph(name))
        model.graph.name = f"other_{name}"
        if name == "step":  # as ONNX Runtime's quantiser leaves it
            model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
        graphs[name] = model.SerializeToString()
    write_bundle(folder / "o.s2s", contract=contract, graphs={"fp32": graphs}, facts={})
    return Bundle.open(folder / "o.s2s")


def test_a_new_model_is_a_new_version(bundle: Bundle, tmp_path: Path) -> None:
    folder = tmp_path / "r"
    first = write_model_repository(bundle, folder, name="fish", sequences=3)
    assert write_model_repository(bundle, folder, name="fish") == first
    config = folder / "fish" / "config.pbtxt"
    config.write_text(config.read_text() + "instance_group { count: 2 }\n")
    second = write_model_repository(
        other_bundle(tmp_path, bundle, bundle.contract), folder, name="fish"
    )
    assert sorted(path.name for path in (folder / "fish").iterdir()) == ["1", "2", "config.pbtxt"]
    assert second.name == "2"
    kept = parse_config(config.read_text())
    assert kept.instance_group[0].count == 2
    assert kept.sequence_batching.oldest.max_candidate_sequences == 3
    with serve(folder) as (_, servicer):
        assert list(servicer.models["fish"]) == ["1", "2"]


def test_another_network_is_refused(repository: Path, bundle: Bundle, tmp_path: Path) -> None:
    less = replace(bundle.contract, states=bundle.contract.states[:-1])
    before = {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match="another size or state"):
        write_model_repository(other_bundle(tmp_path, bundle, less), repository)
    assert before == {path: path.read_bytes() for path in repository.rglob("*") if path.is_file()}


def test_a_broken_configuration_is_named(bundle: Bundle, tmp_path: Path) -> None:
    config = tmp_path / "s2svos" / "config.pbtxt"
    config.parent.mkdir()
    config.write_text("input { nam }")
    with pytest.raises(UserError, match=r"config\.pbtxt cannot be read.*nam"):
        write_model_repository(bundle, tmp_path)


def test_a_place_that_cannot_be_written_is_left_as_it_was(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_model_repository(bundle, tmp_path / "file" / "r")
    (tmp_path / "r" / "README.md").mkdir(parents=True)  # where a file is to be
    with pytest.raises(UserError, match="cannot be written"):
        write_model_repository(bundle, tmp_path / "r")
    assert not (tmp_path / "r" / "s2svos").exists()


def test_the_readme_is_filled_in(repository: Path, bundle: Bundle) -> None:
    text = (repository / "README.md").read_text()
    assert bundle.sha256 in text
    assert "Triton itself" in text
    assert "{" not in text


@pytest.mark.parametrize("name", ["../x", "/x", "", "..", "a/b", "a:b"])
def test_a_model_name_is_no_path(bundle: Bundle, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="no name of a model"):
        write_model_repository(bundle, tmp_path / "r", name=name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["README.md", "client.py"])
def test_files_of_others_stay(bundle: Bundle, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match="is not of s2svos and would be overwritten"):
        write_model_repository(bundle, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_server_that_stalls_is_left(repository: Path, video: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        options = ("--url", address, "--out", tmp_path / "o", "--timeout", 1)
        run = client(repository, video, "--mask", video.with_name("first.png"), *options)
    assert run.returncode == 1
    assert "did not follow the objects" in run.stderr
    assert "Traceback" not in run.stderr
