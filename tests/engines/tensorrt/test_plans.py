"""Which plan fits here is decided, and said, without TensorRT and without a GPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from s2svos_engines.bundle import Bundle, add_plans, write_bundle
from s2svos_engines.contract import StateSpec, StepContract
from s2svos_engines.errors import UserError
from s2svos_engines.tensorrt.plans import Plan, Target, matching_plan, plans_of

CONTRACT = StepContract(64, 112, (StateSpec("cell", (8, 4, 7)),))
GRAPHS = {
    "fp32": {"init": b"first graph", "step": b"second graph"},
    "int8": {"init": b"first graph", "step": b"third graph"},
}
HERE = Target("tensorrt", "11.4.0.106", ("9.0",), "NVIDIA H200", "580.65.6")
RTX = Target("tensorrt-rtx", "1.7.1.116", ("8.6", "8.9", "12.0"))


def record(target: Target = HERE, *, graph: str = "step", max_objects: int = 8) -> Plan:
    member = f"plans/{target.library}-{target.gpu}/{graph}.plan"
    return Plan(member, graph, "fp32", max_objects, target)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "x.s2s"
    facts = {"network": {"preset": "lite"}, "parity": {"fp32": {"mean_iou": 1.0}}}
    others = {"reports/drift.json": b"{}"}
    write_bundle(path, contract=CONTRACT, graphs=GRAPHS, facts=facts, others=others)
    return path


def with_plan(path: Path, plan: Plan, data: bytes = b"machine code") -> Bundle:
    add_plans(path, [(plan.to_json(), data)])
    return Bundle.open(path)


def test_a_plan_that_fits_is_found(path: Path) -> None:
    bundle = with_plan(path, record())
    assert matching_plan(bundle, "step", "fp32", HERE) == record()
    assert bundle.read(record().member) == b"machine code"


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (replace(HERE, gpu="NVIDIA A100"), "NVIDIA A100"),
        (replace(HERE, compute_capabilities=("8.0",)), "8.0"),
        (replace(HERE, version="11.3.0.99"), "11.3.0.99"),
        (replace(HERE, driver="570.12.0"), "570.12.0"),
    ],
)
def test_a_plan_of_another_machine_names_both_and_the_command(
    path: Path, other: Target, named: str
) -> None:
    bundle = with_plan(path, record(other))
    with pytest.raises(UserError) as error:
        matching_plan(bundle, "step", "fp32", HERE)
    text = str(error.value)
    assert named in text
    assert str(HERE) in text
    assert f"s2svos export {path} --plan tensorrt" in text


def test_a_portable_plan_fits_the_generations_it_names(path: Path) -> None:
    bundle = with_plan(path, record(RTX))
    ada = Target("tensorrt-rtx", "1.7.1.116", ("8.9",), "NVIDIA RTX 4090", "580.65.6")
    assert matching_plan(bundle, "step", "fp32", ada) == record(RTX)
    with pytest.raises(UserError, match="--plan tensorrt-rtx"):
        matching_plan(bundle, "step", "fp32", replace(ada, compute_capabilities=("7.5",)))


def test_no_plan_and_too_many_objects_say_what_to_type(path: Path) -> None:
    with pytest.raises(UserError, match="holds no TensorRT plan of step in fp32; build it here"):
        matching_plan(Bundle.open(path), "step", "fp32", HERE)
    bundle = with_plan(path, record(max_objects=4))
    matching_plan(bundle, "step", "fp32", HERE, objects=4)
    with pytest.raises(UserError, match=r"at most 4 objects, not 5.*--max-objects 5"):
        matching_plan(bundle, "step", "fp32", HERE, objects=5)


def test_adding_plans_keeps_all_else(path: Path) -> None:
    before = Bundle.open(path)
    after = with_plan(path, record())
    assert set(after.manifest.members) - set(before.manifest.members) == {record().member}
    for member, checksum in before.manifest.members.items():
        assert after.manifest.members[member] == checksum
        assert after.read(member) == before.read(member)
    facts = after.manifest.to_json()
    assert facts.pop("plans") == [Plan.to_json(record()) | {"target": facts_of(HERE)}]
    assert {**facts, "members": before.manifest.members} == before.manifest.to_json()
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left beside it"


def facts_of(target: Target) -> dict[str, object]:
    return {**vars(target), "compute_capabilities": list(target.compute_capabilities)}


def test_a_new_plan_takes_the_place_of_the_old(path: Path) -> None:
    with_plan(path, record(replace(HERE, driver="570.12.0")), b"old")
    bundle = with_plan(path, record(), b"new")
    assert plans_of(bundle, "step", "fp32", "tensorrt") == [record()]
    assert bundle.read(record().member) == b"new"


def test_a_failed_write_keeps_the_bundle(path: Path) -> None:
    good = path.read_bytes()
    with pytest.raises(TypeError):
        add_plans(path, [({**record().to_json(), "target": object()}, b"machine code")])
    assert path.read_bytes() == good


def test_a_plan_that_changed_is_never_handed_out(path: Path) -> None:
    bundle = with_plan(path, record())
    good = path.read_bytes()
    path.write_bytes(good.replace(b"machine code", b"MACHINE CODE"))
    with pytest.raises(UserError, match="changed while it was in use"):
        bundle.read(record().member)
    with pytest.raises(UserError, match="checksum"):
        Bundle.open(path)
    path.write_bytes(good)
    with_plan(path, record(), b"another plan")
    with pytest.raises(UserError, match="changed while it was in use"):
        bundle.read(record().member)


@pytest.mark.parametrize("plans", [[{"member": "step.onnx"}], ["x"], [record().to_json()]])
def test_a_list_of_plans_that_makes_no_sense(path: Path, plans: object) -> None:
    write_bundle(path, contract=CONTRACT, graphs=GRAPHS, facts={"plans": plans})
    with pytest.raises(UserError, match="export it again"):
        matching_plan(Bundle.open(path), "step", "fp32", HERE)
