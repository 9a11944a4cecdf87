"""Between the YAML files of a training and its config."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from s2svos import __version__
from s2svos.data.config import DataConfig, parse_data
from s2svos.training.config import TrainConfig
from s2svos_engines.errors import UserError
from s2svos_engines.files import write_atomically

PRESETS = ("lite", "paper", "fine-tune")
_CONFIG = TypeAdapter(TrainConfig)
_FIXED = (
    *("network", "backbone", "data", "objects", "loss", "corruption", "windows", "ema_decay"),
    *("optimiser.kind", "optimiser.betas", "optimiser.weight_decay", "seed"),
)
"""Keys that a run keeps to its end. Steps, rates, schedule, precision, devices, validation and so
on may change when it is resumed, and so may the places of its files."""


_OLD_KEYS = {
    "spoil": "corruption",
    "average": "ema_decay",
    "accumulate": "grad_accumulation",
    "optimiser.rate": "optimiser.lr",
    "optimiser.backbone_rate": "optimiser.backbone_lr",
    "optimiser.clip_gradient": "optimiser.grad_clip_norm",
    "loss.hardest": "loss.bootstrap_ratio",
    "loss.harden": "loss.bootstrap_steps",
}
"""Keys that older files and checkpoints have."""


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-5 for text; everyone who writes it means the number."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def load_config(name: str) -> TrainConfig:
    """Return the config of a preset or of a file.

    Args:
        name: ``lite``, ``paper``, ``fine-tune``, or the path of a YAML file. One that has a
            ``base`` states only what differs from that preset or file (named from where it lies).

    Raises:
        UserError: it cannot be read, or a key or value is wrong.
    """
    return settings_from_json(_read(name), name)


def settings_from_json(fields: Mapping[str, Any], where: str) -> TrainConfig:
    """Return the config that :func:`settings_to_json` wrote, or that a file holds.

    Args:
        fields: JSON types; a data set may be written as on the command line.
        where: they come from, for messages.

    Raises:
        UserError: a key is unknown or missing, or a value is wrong.
    """
    fields = _renamed(fields)
    if isinstance(fields.get("data"), list):
        fields["data"] = [
            asdict(parse_data(one)) if isinstance(one, str) else one for one in fields["data"]
        ]
    try:
        return _CONFIG.validate_json(json.dumps(fields))
    except ValidationError as error:
        raise UserError(_sentence(error, where)) from error
    except TypeError as error:  # a date, or a key that is no text
        raise UserError(f"{where} holds a value that is no number or text ({error}).") from error


def settings_to_json(config: TrainConfig) -> dict[str, Any]:
    """Return the config as JSON types."""
    fields: dict[str, Any] = _CONFIG.dump_python(config, mode="json")
    return fields


def described(config: TrainConfig) -> dict[str, Any]:
    """Return the config as JSON types without this machine's folders, to travel with weights."""
    fields = settings_to_json(config)
    for data in (*fields["data"], fields["validation"]["data"]):
        if data:
            data["root"] = _last_part(data["root"])
    fields["backbone"]["weights"] = _last_part(fields["backbone"]["weights"])
    fields["init"] = _last_part(fields["init"])
    return fields


def write_config(config: TrainConfig, path: Path) -> None:
    """Write what :func:`load_config` reads, whole or not at all."""
    head = f"# The whole config of a training by s2svos {__version__}.\n"
    body = yaml.safe_dump(settings_to_json(config), sort_keys=False, default_flow_style=None)
    write_atomically(path, (head + body).encode())


def with_data(config: TrainConfig, texts: list[str]) -> TrainConfig:
    """Return the config with other data; a set keeps the sampling of the set of its kind.

    Args:
        config: in which ``data`` is replaced.
        texts: as :func:`s2svos.data.config.parse_data` reads them.

    Raises:
        UserError: one of them names no data set.
    """
    known = {data.label: data for data in config.data}

    def like_known(named: DataConfig) -> DataConfig:
        old = known.get(named.label)
        return replace(old, root=named.root, weight=named.weight) if old else named

    return replace(config, data=tuple(like_known(parse_data(text)) for text in texts))


def check_resumable(saved: TrainConfig, wanted: TrainConfig, path: Path) -> None:
    """Make sure that a run may go on under another config.

    Args:
        saved: of the checkpoint.
        wanted: from now on.
        path: of the checkpoint.

    Raises:
        UserError: something changed that may not.
    """
    before, after = described(saved), described(wanted)
    for fields in (before, after):
        fields["backbone"]["weights"] = fields["backbone"]["weights"] != "none"
        for data in fields["data"]:
            data["root"] = data["memory"] = None
    for key in _FIXED:
        old, new = _at(before, key), _at(after, key)
        if old != new:
            raise UserError(
                f"{_difference(key, old, new)} since {path} was written",
                (
                    "go on with what it was, "
                    f"or begin another run from its weights with --init {path} and another --out"
                ),
            )


def _read(name: str, *readers: str) -> dict[str, Any]:
    """Read the keys of a preset or file over those of its base.

    Args:
        name: of the preset or file.
        readers: files that have it as their base.
    """
    if name in PRESETS:
        text = (files("s2svos.training") / "presets" / f"{name}.yaml").read_text("utf-8")
    else:
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"The config {name} cannot be read", f"name {', '.join(PRESETS)} or a YAML file"
            ) from error
    try:
        fields = yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" at line {where.line + 1}" if where else ""
        raise UserError(f"{name} is no YAML{line}", "correct it") from error
    if not isinstance(fields, dict):
        raise UserError(f"{name} holds no keys and values", "begin it with base: lite")
    fields = _renamed(fields)  # before it meets its base, whose keys are the new ones
    base = fields.pop("base", None)
    if base is None:
        return fields
    found = str(base) if base in PRESETS else str(Path(name).parent / str(base))
    if found in (name, *readers):
        raise UserError(f"{name} is its own base", f"name {' or '.join(PRESETS)} there")
    return _merged(_read(found, name, *readers), fields)


def _renamed(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy with :data:`_OLD_KEYS` replaced, where the new key is not there as well."""
    renamed = {key: dict(one) if isinstance(one, dict) else one for key, one in fields.items()}
    for old, new in _OLD_KEYS.items():
        section = old.rpartition(".")[0]
        inside = renamed.get(section) if section else renamed
        before, after = old.rpartition(".")[2], new.rpartition(".")[2]
        if isinstance(inside, dict) and before in inside and after not in inside:
            inside[after] = inside.pop(before)
    return renamed


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Merge two mappings at every depth; ``over`` wins where a value is no mapping."""
    merged = base | over
    for key in base.keys() & over.keys():
        if isinstance(base[key], dict) and isinstance(over[key], dict):
            merged[key] = _merged(base[key], over[key])
    return merged


def _sentence(error: ValidationError, where: str) -> str:
    """Describe the first error in one sentence."""
    first = error.errors(include_url=False)[0]
    place = [part for part in first["loc"] if part not in PRESETS]
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    if first["type"] == "unexpected_keyword_argument":
        siblings = _at(settings_to_json(load_config("lite")), name.rpartition(".")[0])
        close = difflib.get_close_matches(str(place[-1]), siblings or (), 1)
        hint = f"did you mean {close[0]}" if close else "remove it"
        return f"{where}: {name} is no key of a training; {hint}."
    if first["type"] in ("missing", "missing_argument"):
        return f"{where}: {name} is missing; state it, or begin the file with base: lite."
    problem = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return f"{where}: {name}{': ' if name else ''}{problem}; correct it."
    return f"{where}: {name} is {first['input']!r}; {problem[:1].lower()}{problem[1:]}."


def _at(fields: Any, key: str) -> Any:
    """Return the value at a dotted key, None if there is none."""
    for part in re.findall(r"\w+", key):
        if isinstance(fields, list):
            fields = fields[int(part)] if part.isdigit() and int(part) < len(fields) else None
        else:
            fields = fields.get(part) if isinstance(fields, dict) else None
    return fields


def _difference(key: str, old: Any, new: Any) -> str:
    """Describe which value of a config changed, as the beginning of a sentence."""
    if isinstance(old, dict) and isinstance(new, dict):
        part = next(part for part in old | new if old.get(part) != new.get(part))
        return _difference(f"{key}.{part}", old.get(part), new.get(part))
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        index = next(i for i in range(len(old)) if old[i] != new[i])
        return _difference(f"{key}[{index}]", old[index], new[index])
    if isinstance(old, list) and isinstance(new, list):
        return f"{key} has changed from {len(old)} to {len(new)} entries"
    return f"{key} has changed from {old} to {new}"


def _last_part(path: str | None) -> str | None:
    return Path(path).name if path else path
