"""The training loop."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from s2svos.data.clips import ClipSource
from s2svos.data.dataset import batches
from s2svos.network.checkpoint import build, read_checkpoint, save_checkpoint
from s2svos.network.config import NetworkConfig
from s2svos.network.lite import Lite
from s2svos.network.paper import Paper
from s2svos.training.config import TrainConfig
from s2svos.training.loss import hard_cross_entropy, jaccard, soft_dice
from s2svos_engines.errors import UserError

CHECKPOINT_EVERY = 100  # steps
HISTORY = ("step", "loss", "jaccard", "learning_rate", "seconds")


@dataclass(frozen=True)
class Progress:
    """One step, for whoever shows it."""

    step: int
    steps: int
    loss: float
    jaccard: float
    learning_rate: float
    seconds: float


def rate_at(done: float, warm_up: float) -> float:
    """One cycle: the share of the highest learning rate when ``done`` of the steps are over."""
    if done < warm_up:
        return 0.04 + 0.96 * done / warm_up
    return 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))


def clip_logits(network: Lite | Paper, frames: Tensor, masks: Tensor) -> Tensor:
    """Runs clips closed loop: every frame after the first sees the network's own masks.

    Args:
        network: of either preset.
        frames: float [T, B, 3, H, W], 0 to 255.
        masks: float [B, 1, H, W], the first frames' masks.

    Returns:
        float [T - 1, B, 1, H, W].
    """
    length, batch = frames.shape[:2]
    encoded = network.features(frames.flatten(0, 1))
    by_frame = [
        type(encoded)(*(x.view(length, batch, *x.shape[1:])[t] for x in encoded))
        for t in range(length)
    ]
    state: Any = network.start(by_frame[0], masks)  # type: ignore[arg-type]
    logits = []
    for features in by_frame[1:]:
        out, state = network.advance(features, state)  # type: ignore[arg-type]
        logits.append(out)
    full = F.interpolate(torch.cat(logits), frames.shape[-2:], mode="bilinear")
    return full.view(length - 1, batch, *full.shape[1:])


class Average:
    """Exponential moving average of a network's weights, shorter while training is young."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Moves the average towards the network's weights after optimiser step ``step``."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in network.state_dict().items():
            if value.is_floating_point():
                self.weights[key].lerp_(value, 1 - decay)
            else:
                self.weights[key].copy_(value)


def _parameter_groups(network: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    backbone: list[nn.Parameter] = []
    rest: list[nn.Parameter] = []
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            (backbone if "backbone" in name else rest).append(parameter)
    groups = [
        {"params": backbone, "highest": config.backbone_rate},
        {"params": rest, "highest": config.learning_rate},
    ]
    return [group for group in groups if group["params"]]


class Trainer:
    """Trains one network into a folder.

    Args:
        network_config: what to build; its size is that of use, each phase trains at its own.
        config: how to train.
        source: of the clips.
        out: folder for ``last.pt``, ``final.pt`` and ``history.csv``.
        prepare: called on the new network: loads and freezes its backbone.
        facts: what the checkpoint tells of its origin besides the config.
        workers: processes that make clips.
    """

    def __init__(
        self,
        *,
        network_config: NetworkConfig,
        config: TrainConfig,
        source: ClipSource,
        out: Path,
        prepare: Callable[[Lite | Paper], None],
        facts: dict[str, Any],
        workers: int,
    ) -> None:
        self.network_config, self.config, self.source = network_config, config, source
        self.out, self.prepare, self.workers = out, prepare, workers
        self.facts = {**facts, "training": asdict(config)}
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def run(self, report: Callable[[Progress], None], *, resume: bool = False) -> Path:
        """Trains to the end.

        Args:
            report: called after every step.
            resume: go on from ``last.pt`` in the output folder.

        Returns:
            Path of the final checkpoint, which holds the averaged weights.
        """
        torch.manual_seed(self.config.seed)
        self.out.mkdir(parents=True, exist_ok=True)
        network = build(self.network_config)
        self.prepare(network)
        network.to(self.device).train()
        optimiser = torch.optim.AdamW(
            _parameter_groups(network, self.config), weight_decay=self.config.weight_decay
        )
        average = Average(network, self.config.average)
        step = self._restore(network, optimiser, average) if resume else 0

        begun = 0
        with _history(self.out / "history.csv", step) as write:
            for phase in self.config.phases:
                done = min(max(step - begun, 0), phase.steps)
                begun += phase.steps
                if done == phase.steps:
                    continue
                clips = batches(
                    self.source, phase, seed=self.config.seed, done=done, workers=self.workers
                )
                for frames, masks in clips:
                    progress = self._step(network, optimiser, frames, masks, step)
                    step += 1
                    average.update(network, step)
                    write(progress)
                    report(progress)
                    if step % CHECKPOINT_EVERY == 0:
                        self._save("last.pt", average, step, network, optimiser)
        return self._save("final.pt", average, step)

    def _step(
        self,
        network: Lite | Paper,
        optimiser: torch.optim.Optimizer,
        frames: Tensor,
        masks: Tensor,
        step: int,
    ) -> Progress:
        begun = time.perf_counter()
        config = self.config
        done = step / config.steps
        for group in optimiser.param_groups:
            group["lr"] = group["highest"] * rate_at(done, config.warm_up)
        target = masks.to(self.device).float() / 255
        logits = clip_logits(network, frames.to(self.device).float(), target[0])
        share = 1 - (1 - config.hardest) * min(1.0, done / config.harden)
        loss = hard_cross_entropy(logits, target[1:], share)
        loss = loss + config.dice * soft_dice(logits, target[1:])
        if not torch.isfinite(loss):
            raise UserError(f"The loss is {loss.item()} at step {step}; lower the learning rate.")
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), config.clip_gradient)
        optimiser.step()
        rate = optimiser.param_groups[-1]["lr"]
        region = jaccard(logits, target[1:])
        seconds = time.perf_counter() - begun
        return Progress(step + 1, config.steps, loss.item(), region, rate, seconds)

    def _save(
        self,
        name: str,
        average: Average,
        step: int,
        network: nn.Module | None = None,
        optimiser: torch.optim.Optimizer | None = None,
    ) -> Path:
        resume = None
        if network and optimiser:
            resume = {
                "step": step,
                "weights": network.state_dict(),
                "optimiser": optimiser.state_dict(),
            }
        path = self.out / name
        save_checkpoint(
            path,
            config=self.network_config,
            weights=average.weights,
            facts={**self.facts, "steps": step},
            resume=resume,
        )
        return path

    def _restore(
        self, network: nn.Module, optimiser: torch.optim.Optimizer, average: Average
    ) -> int:
        data = read_checkpoint(self.out / "last.pt")
        network.load_state_dict(data["resume"]["weights"])
        optimiser.load_state_dict(data["resume"]["optimiser"])
        average.weights = data["weights"]
        return int(data["resume"]["step"])


@contextmanager
def _history(path: Path, step: int) -> Iterator[Callable[[Progress], None]]:
    """Appends a row a step to ``history.csv``; rows after ``step`` belong to a lost attempt."""
    kept: list[list[str]] = []
    if step and path.is_file():
        with path.open(newline="") as file:
            kept = [row for row in list(csv.reader(file))[1:] if int(row[0]) <= step]
    with path.open("w", newline="", buffering=1) as file:
        writer = csv.writer(file)
        writer.writerow(HISTORY)
        writer.writerows(kept)

        def write(p: Progress) -> None:
            values = (p.loss, p.jaccard, p.learning_rate, p.seconds)
            writer.writerow([p.step, *(f"{value:.6g}" for value in values)])

        yield write
