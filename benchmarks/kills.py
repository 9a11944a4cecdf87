"""What is lost where a command is killed, or meets a full disk, at a random moment.

python -m benchmarks.kills --tries 20 --json results.jsonl

Each command is begun, stopped, and run again as one would go on with it. It has answered well if it
ended as it should (by SIGKILL at once; by SIGTERM with 143; by the disk with one sentence and code
1 or 2) and if the second run's results are those of an undisturbed one, byte by byte; lost if they
are not. A limit on the size of files stands for the full disk.
"""

from __future__ import annotations

import hashlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.report import append_json, print_table, run_script
from s2svos.inference.state import STATE
from s2svos_engines.errors import UserError

WAYS = ("SIGKILL", "SIGTERM", "disk")
HEIGHT, WIDTH, FRAMES = 90, 160, 24
CONFIG = """\
base: paper
network: {preset: paper, height: 32, width: 64, channels: 8, fc_channels: 8, vgg_width: 0.05}
data: [synthetic]
workers: 0
checkpoint_every: 2
phases: [{steps: 24, batch: 2, length: 3, height: 32, width: 64}]
validation: {every: 8, clips: 1, frames: 2}
backbone: {weights: none}
"""

# Of a short clip a state is kept after every few frames, not after 30 seconds.
OFTEN = (
    "import s2svos.inference.run as run, s2svos.inference.state as state, s2svos.cli as cli;"
    "run.PORTION = 4; state._SECONDS = 0; cli.main()"
)

Digests = dict[str, str]


@dataclass(frozen=True)
class Command:
    """A command that is stopped.

    Args:
        name: of it.
        arguments: it begins with; OUT stands for where it writes.
        again: with these it goes on once there is a checkpoint; None for the same.
        results: digests of what a whole run leaves in OUT.
        program: what Python runs.
    """

    name: str
    arguments: tuple[str, ...]
    results: Callable[[Path], Digests]
    again: tuple[str, ...] | None = None
    program: tuple[str, ...] = ("-m", "s2svos")


@dataclass
class Tally:
    """How often a command was stopped in one way, and what came of it."""

    command: str
    way: str
    tried: int = 0
    well: int = 0
    lost: int = 0


def main(
    tries: Annotated[int, typer.Option(min=1, help="Moments for each command and way.")] = 20,
    only: Annotated[str, typer.Option(help="Commands, with commas.")] = "",
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    json: Annotated[Path | None, typer.Option(help="Append the results to this file.")] = None,
) -> None:
    """Stop infer, prepare, evaluate, train and export, and go on with them."""
    chooser = random.Random(seed)
    tallies: list[Tally] = []
    with tempfile.TemporaryDirectory() as folder:
        inputs = Path(folder, "inputs")
        for command in _commands(inputs):
            if only and command.name not in only.split(","):
                continue
            began = time.perf_counter()
            whole = Path(folder, "whole")
            run = partial(_run, program=command.program)
            if (undisturbed := run(command.arguments, whole)).returncode:
                raise UserError(f"{command.name} ends with {undisturbed.stderr}")
            seconds = time.perf_counter() - began
            expected, largest = command.results(whole), _largest(whole)
            _remove(whole)
            for way in WAYS:
                tally = Tally(command.name, way)
                for _ in range(tries):
                    moment = chooser.random()
                    _try(command, tally, moment * seconds, int(moment * largest), expected, folder)
                tallies.append(tally)
                typer.echo(f"{tally.command} {tally.way}: {tally.well} of {tally.tried} well")
    rows = [(f"{t.command}, {t.way}", str(t.tried), str(t.well), str(t.lost)) for t in tallies]
    columns = ("stopped", "tried", "answered well", "lost")
    print_table("Commands that are stopped at random moments", columns, rows)
    if json:
        append_json(json, "kills", {"seed": seed, "tallies": [asdict(one) for one in tallies]})


def _try(
    command: Command, tally: Tally, after: float, limit: int, expected: Digests, folder: str
) -> None:
    """Stop a command after so many seconds, or by files of so many bytes, and go on with it."""
    out = Path(folder, "out")
    run = partial(_run, program=command.program)
    ended = (
        run(command.arguments, out, limit=limit)
        if tally.way == "disk"
        else run(command.arguments, out, stop=signal.Signals[tally.way], after=after)
    )
    sentence = ended.stderr.strip().splitlines()[-1:]
    well = "Traceback" not in ended.stderr
    if tally.way == "SIGKILL":
        well &= ended.returncode in (0, -signal.SIGKILL)
    elif tally.way == "SIGTERM":
        # Before Python has begun and after all is written the signal ends it as it ends others.
        outside = ended.returncode == -signal.SIGTERM and (
            not _files(out) or _is_whole(command, out, expected)
        )
        well &= outside or ended.returncode in (0, 128 + signal.SIGTERM)
    else:
        well &= ended.returncode == 0 or (ended.returncode in (1, 2) and bool(sentence))
    if tally.way != "SIGKILL":
        well &= not list(out.rglob("*.part"))
    begun = (out / "last.pt").exists() or (out / STATE).exists()
    again = run((begun and command.again) or command.arguments, out)
    same = again.returncode == 0 and _is_whole(command, out, expected)
    tally.tried += 1
    tally.lost += not same
    tally.well += well and same
    if not (well and same):
        then = "".join(again.stderr.strip().splitlines()[-1:])
        typer.echo(f"  {ended.returncode} {''.join(sentence)} | {again.returncode} {then}")
    _remove(out)


def _is_whole(command: Command, out: Path, expected: Digests) -> bool:
    try:
        return command.results(out) == expected
    except UserError:  # a checkpoint is not there yet
        return False


def _run(
    arguments: Sequence[str],
    out: Path,
    *,
    program: tuple[str, ...] = ("-m", "s2svos"),
    stop: signal.Signals | None = None,
    after: float = 0,
    limit: int | None = None,
) -> subprocess.CompletedProcess[str]:
    if any(one.startswith("OUT/") for one in arguments):
        out.mkdir(exist_ok=True)
    words = [sys.executable, *program, *(one.replace("OUT", str(out)) for one in arguments)]
    before = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit)) if limit else None
    process = subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=before
    )
    try:
        output, error = process.communicate(timeout=after if stop else None)
    except subprocess.TimeoutExpired:
        assert stop
        process.send_signal(stop)
        output, error = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, output, error)


def _commands(inputs: Path) -> list[Command]:
    """Draw what the commands read, and return them."""
    from fractions import Fraction

    from PIL import Image

    from s2svos.sample.render import render
    from s2svos.video.masks import davis_palette, write_mask
    from s2svos.video.writer import VideoWriter

    clip = list(render(length=FRAMES, height=HEIGHT, width=WIDTH))
    inputs.mkdir()
    video, mask, config = inputs / "clip.mp4", inputs / "first.png", inputs / "c.yaml"
    with VideoWriter(video, width=WIDTH, height=HEIGHT, rate=Fraction(24)) as writer:
        for frame, _ in clip:
            writer.write(frame)
    write_mask(mask, clip[0][1], davis_palette())
    for name in ("a", "b", "c"):
        for kind in ("frames", "masks"):
            (inputs / "set" / kind / name).mkdir(parents=True)
        for index, (frame, ids) in enumerate(clip):
            Image.fromarray(frame).save(inputs / "set" / "frames" / name / f"{index:05d}.jpg")
            write_mask(inputs / "set" / "masks" / name / f"{index:05d}.png", ids, davis_palette())
    config.write_text(CONFIG)
    _run(("train", "--config", str(config), "--out", "OUT"), inputs / "run")
    data = str(inputs / "set")
    export = ("export", str(inputs / "run" / "final.pt"), "-o", "OUT/x.s2s", "--accept-drift")
    begin = ("train", "--config", str(config), "--out", "OUT")
    masks = partial(_files, only="*.png")
    infer = ("infer", str(video), "--mask", str(mask), "-o", "OUT", "--overwrite")
    return [
        Command("infer", infer, partial(_files, but=("run.json",))),
        Command(
            "infer --resume",
            infer,
            partial(_files, but=("run.json",)),
            again=(*infer[:-1], "--resume"),
            program=("-c", OFTEN),
        ),
        Command("prepare", ("prepare", f"folder={data}", "--size", "60", "--out", "OUT"), _files),
        Command("evaluate", ("evaluate", "--folder", data, "--out", "OUT"), masks),
        Command("train", begin, _weights, again=("train", "--resume", "--out", "OUT")),
        Command("export", export, partial(_files, only="*.s2s")),
    ]


def _files(out: Path, *, but: tuple[str, ...] = (), only: str = "*") -> Digests:
    """Return the digest of every file, but of those that hold times."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob(only))
        if path.is_file() and path.name not in but and not path.name.startswith(".")
    }


def _weights(out: Path) -> Digests:
    """Return the digests of the weights; a checkpoint holds times besides."""
    from s2svos.network.checkpoint import read_checkpoint

    weights = read_checkpoint(out / "final.pt")["weights"]
    return {
        name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in weights.items()
    }


def _largest(out: Path) -> int:
    return max((path.stat().st_size for path in out.rglob("*") if path.is_file()), default=0)


def _remove(out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    run_script(main)
