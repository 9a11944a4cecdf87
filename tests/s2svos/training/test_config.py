from dataclasses import replace
from pathlib import Path

import pytest

from s2svos.network.config import LiteConfig, PaperConfig
from s2svos.training.config import (
    ScheduleConfig,
    TrainConfig,
    with_batch,
    with_epochs,
    with_lr,
    with_steps,
)
from s2svos.training.config_file import (
    check_resumable,
    described,
    load_config,
    settings_from_json,
    settings_to_json,
    with_data,
    write_config,
)
from s2svos.training.optim import rate_at
from s2svos_engines.errors import UserError


@pytest.fixture(scope="module")
def lite() -> TrainConfig:
    return load_config("lite")


def test_presets_are_whole_and_the_papers_is_the_papers(lite: TrainConfig) -> None:
    assert isinstance(lite.network, LiteConfig)
    paper = load_config("paper")
    assert paper.network == PaperConfig(256, 448)
    assert (paper.optimiser.kind, paper.optimiser.lr) == ("adam", 1e-5)
    assert paper.loss.bootstrap_ratio == 1
    assert paper.loss.dice == 0
    assert paper.epochs == pytest.approx(80, rel=1e-3)
    lengths = [phase.length for phase in paper.phases]
    assert (lengths[0], lengths[-1]) == (5, 11)
    assert lengths == sorted(lengths)
    assert paper.backbone.weights == "imagenet"


def test_fine_tuning_goes_on_from_the_weights_that_ship(lite: TrainConfig) -> None:
    config = load_config("fine-tune")
    assert config.init == "lite"
    assert config.network == lite.network
    assert config.optimiser.lr < lite.optimiser.lr / 3
    (phase,) = config.phases
    assert (phase.height, phase.width) == (lite.network.height, lite.network.width)


def written(folder: Path, text: str) -> str:
    path = folder / "own.yaml"
    path.write_text(text)
    return str(path)


def test_a_file_states_what_differs_from_its_base(tmp_path: Path, lite: TrainConfig) -> None:
    name = written(
        tmp_path,
        "base: lite\noptimiser: {lr: 1e-5}\ndata: ['davis2017=/d:0.5', {kind: synthetic}]\n"
        "validation: {data: {kind: folder, root: /v}}\n",
    )
    config = load_config(name)
    assert config.optimiser == replace(lite.optimiser, lr=1e-5)  # text in plain YAML 1.1
    assert [(d.label, d.root, d.weight) for d in config.data] == [
        ("davis2017", "/d", 0.5),
        ("synthetic", None, 1.0),
    ]
    assert config.validation.data is not None
    assert config.validation.data.root == "/v"
    assert config.phases == lite.phases
    (tmp_path / "second.yaml").write_text("base: own.yaml\nseed: 9")
    assert load_config(str(tmp_path / "second.yaml")) == replace(config, seed=9)


def test_a_config_round_trips(tmp_path: Path, lite: TrainConfig) -> None:
    config = with_data(lite, ["davis=/d", "synthetic:0.25"])
    write_config(config, tmp_path / "config.yaml")
    assert load_config(str(tmp_path / "config.yaml")) == config
    assert settings_from_json(settings_to_json(config), "x") == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("base: lite\noptimiser: {l_r: 1}", r"optimiser\.l_r is no key .* did you mean lr"),
        ("base: lite\nstep: 3", r"step is no key of a training"),
        ("base: lite\nworkers: two", r"workers is 'two'; input should be a valid integer"),
        ("base: lite\nworkers: true", r"workers is True"),
        ("base: lite\noptimiser: {lr: -1}", r"optimiser\.lr is -1; .* greater than 0"),
        ("base: lite\noptimiser: {lr: .nan}", r"optimiser\.lr is nan"),
        ("base: lite\nprecision: fp8", r"precision is 'fp8'"),
        ("base: lite\nnetwork: {preset: large}", r"network"),
        ("base: lite\nnetwork: {hiden: 3}", r"network\.hiden is no key .* did you mean hidden"),
        ("base: lite\nnetwork: {height: 100}", r"100x448 does not fit the lite network"),
        ("base: lite\nphases: []", r"phases is \[\]"),
        (
            "base: lite\nphases: [{batch: 1, length: 1, height: 64, width: 64, steps: 1}]",
            r"phases\[0\]\.length is 1",
        ),
        (
            "base: lite\nphases: [{batch: 1, length: 3, height: 64, width: 64}]",
            r"phases\[0\]: a phase has either steps or epochs",
        ),
        ("base: lite\ndata: [{kind: nonsense}]", r"data\[0\]\.kind is 'nonsense'"),
        ("base: lite\ndata: [nonsense]", r"'nonsense' names no data set"),
        ("base: lite\ndata: [{kind: davis}]", r"davis needs the folder"),
        ("seed: 1", r"network is missing; .* base: lite"),
        ("base: lite\nseed: [", r"is no YAML at line"),
        ("just text", r"holds no keys and values"),
        ("base: own.yaml", r"is its own base"),
        (
            "base: nowhere.yaml",
            r"nowhere\.yaml cannot be read; name lite, paper, fine-tune or a YAML file",
        ),
    ],
)
def test_mistakes_are_named_in_a_sentence(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        load_config(written(tmp_path, text))
    assert "\n" not in str(caught.value)


def test_steps_keep_the_shares_of_the_phases(lite: TrainConfig) -> None:
    for steps in (1, 2, 20, 333):
        assert with_steps(lite, steps).steps == steps
    shares = [phase.steps / lite.steps for phase in lite.phase_steps]
    longer = with_steps(lite, 10 * lite.steps)
    assert [phase.steps / longer.steps for phase in longer.phase_steps] == pytest.approx(shares)
    assert with_epochs(lite, 2).epochs == pytest.approx(2, rel=0.01)
    assert with_epochs(load_config("paper"), 8).epochs == pytest.approx(8, rel=0.01)


def test_batch_size_and_rate_apply_to_all(lite: TrainConfig) -> None:
    assert {phase.batch for phase in with_batch(lite, 12).phases} == {12}
    assert with_batch(load_config("paper"), 8).epochs == pytest.approx(80, rel=1e-3)
    halved = with_lr(lite, lite.optimiser.lr / 2)
    assert halved.optimiser.backbone_lr == pytest.approx(lite.optimiser.backbone_lr / 2)


def test_named_data_keep_the_numbers_of_their_kind(tmp_path: Path) -> None:
    name = written(
        tmp_path, "base: lite\ndata: [{kind: davis, root: /d, split: all, video: {max_speed: 2}}]"
    )
    davis, synthetic = with_data(load_config(name), ["davis=/e:3", "synthetic"]).data
    assert (davis.root, davis.weight, davis.split, davis.video.max_speed) == ("/e", 3, "all", 2)
    assert synthetic.video.max_speed != 2


def test_what_may_change_when_a_run_is_resumed(lite: TrainConfig) -> None:
    saved = with_data(lite, ["davis=/d", "synthetic"])
    path = Path("run/last.pt")
    moved = with_data(saved, ["davis=/elsewhere/d", "synthetic"])
    for fine in (
        saved,
        moved,
        with_steps(saved, 9),
        with_lr(saved, 1e-6),
        with_batch(saved, 2),
        replace(saved, precision="bf16", devices=2, workers=0, grad_accumulation=2, strict=True),
    ):
        check_resumable(saved, fine, path)
    for changed, message in (
        (replace(saved, seed=5), "seed has changed from 1 to 5"),
        (replace(saved, network=replace(saved.network, hidden=8)), r"network\.hidden has changed"),
        (with_data(saved, ["davis=/d:2", "synthetic"]), r"data\[0\]\.weight has changed from 1"),
        (with_data(saved, ["davis=/d"]), "data has changed from 2 to 1 entries"),
        (
            replace(saved, optimiser=replace(saved.optimiser, kind="adam")),
            r"optimiser\.kind has changed from adamw to adam",
        ),
        (
            replace(saved, backbone=replace(saved.backbone, weights="none")),
            r"backbone\.weights has changed",
        ),
    ):
        with pytest.raises(UserError, match=message + r".*--init run/last\.pt"):
            check_resumable(saved, changed, path)


def test_what_travels_with_weights_names_no_folder(lite: TrainConfig) -> None:
    config = with_data(replace(lite, init="/home/me/run/best.pt"), ["davis=/home/me/DAVIS"])
    config = replace(config, backbone=replace(config.backbone, weights="/home/me/b.pth"))
    text = str(described(config))
    assert "DAVIS" in text
    assert "b.pth" in text
    assert "/home" not in text


@pytest.mark.parametrize("kind", ["cosine", "one-cycle"])
def test_rates_rise_and_fall(kind: str) -> None:
    schedule = ScheduleConfig(kind, warm_up=0.1, floor=0.2)  # type: ignore[arg-type]
    rates = [rate_at(t / 100, schedule) for t in range(101)]
    assert rates[0] == pytest.approx(0.04)
    assert max(rates) == rates[10] == 1
    assert rates[-1] == pytest.approx(0.2)
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    middle = rate_at(0.05, schedule)
    assert middle == pytest.approx(0.52)
    quarter = rate_at(0.025, schedule)
    assert (quarter < 0.28 - 0.05) == (kind == "one-cycle")


def test_a_constant_rate_has_a_warm_up_at_most() -> None:
    assert {rate_at(t / 10, ScheduleConfig("constant", 0, 1)) for t in range(11)} == {1.0}
    assert rate_at(0.05, ScheduleConfig("constant", 0.1, 1)) == pytest.approx(0.52)


def test_keys_of_older_files_and_checkpoints_are_read(tmp_path: Path, lite: TrainConfig) -> None:
    text = (
        "base: lite\noptimiser: {rate: 1e-4, backbone_rate: 2e-5, clip_gradient: 3.0}\n"
        "loss: {hardest: 0.5, harden: 0.1}\nspoil: 0.2\naverage: 0.5\naccumulate: 2\n"
    )
    older = load_config(written(tmp_path, text))
    assert older == replace(
        lite,
        optimiser=replace(lite.optimiser, lr=1e-4, backbone_lr=2e-5, grad_clip_norm=3.0),
        loss=replace(lite.loss, bootstrap_ratio=0.5, bootstrap_steps=0.1),
        corruption=0.2,
        ema_decay=0.5,
        grad_accumulation=2,
    )
    with pytest.raises(UserError, match="average is no key of a training"):
        load_config(written(tmp_path, "base: lite\naverage: 0.5\nema_decay: 0.5\n"))
