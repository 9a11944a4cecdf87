"""One optimiser step: clips are rolled out on the network's own masks, on any number of devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from s2svos.data.dataset import Batch
from s2svos.network.segmenter import AnySegmenter
from s2svos.training.config import TrainConfig
from s2svos.training.corruption import corrupt_state, refresh_early
from s2svos.training.loss import jaccard, mean_over_clips, training_loss
from s2svos.training.optim import EMA, parameter_groups, rate_at
from s2svos.training.seeds import SeedStream
from s2svos.training.windows import Move, move_windows, moved_state


class Rollout(nn.Module):
    """A rollout over clips: after the first frame, the network sees its own state alone.

    One module with one ``forward``, which is what autocast and data parallelism hook into.

    Args:
        network: of either preset.
        corruption: chance, a clip and frame, that the default network's state is corrupted, see
            :mod:`s2svos.training.corruption`.
    """

    def __init__(self, network: AnySegmenter, *, corruption: float) -> None:
        super().__init__()
        self.network, self.corruption = network, corruption

    def forward(
        self,
        frames: Tensor,
        first_masks: Tensor,
        owners: Tensor,
        rngs: Sequence[np.random.Generator] = (),
        moves: Sequence[Move] = (),
    ) -> Tensor:
        """Run clips.

        Args:
            frames: uint8 [T, B, 3, H, W]. Bytes, because autocast would round floats.
            first_masks: uint8 [N, 1, H, W], 255 for the object.
            owners: int64 [N], the clip of each object.
            rngs: one a clip, for its corruption; none are needed where that is 0.
            moves: of the windows of clips (default network only).

        Returns:
            Logits of all frames but the first, each object's against all else, float
            [T - 1, N, 1, H, W].
        """
        length, batch = frames.shape[:2]
        seen = [
            frames.flatten(0, 1),
            *(x[None] for move in moves for x in (move.entry, move.latest)),
        ]
        encoded = self.network.features(torch.cat(seen).float())
        sizes = [batch] * length + [1, 1] * len(moves)
        by_frame = [type(encoded)(*x) for x in zip(*(x.split(sizes) for x in encoded), strict=True)]
        by_frame, at_moves = by_frame[:length], by_frame[length:]
        state = self.network.start(by_frame[0], first_masks.float() / 255, owners)
        corrupts = self.corruption > 0 and self.network.feeds_back_mask
        if corrupts:
            state = refresh_early(state, length, rngs)
        logits: list[Tensor] = []
        for number, features in enumerate(by_frame[1:], 1):
            if logits and corrupts:
                state = corrupt_state(state, self.corruption, owners, rngs)
            for index, move in enumerate(moves):
                if move.frame == number:
                    around = at_moves[2 * index : 2 * index + 2]
                    state = moved_state(self.network, state, owners, move, *around)
            out, state = self.network.advance(features, state, owners)
            logits.append(self.network.log_odds(out, owners))
        full = torch.cat(logits)
        if full.shape[-2:] != frames.shape[-2:]:
            full = F.interpolate(full, frames.shape[-2:], mode="bilinear")
        return full.view(length - 1, len(owners), *full.shape[1:])


class StepMetrics(NamedTuple):
    """Metrics of one optimiser step."""

    loss: Tensor  # mean over this device's clips
    jaccard: Tensor  # likewise
    gradient: Tensor  # norm over all devices, before clipping
    learning_rate: float  # of everything but the backbone


def _pieces(batch: Batch, parts: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield frames, masks and owners of equal parts of a batch, which follow each other."""
    size = batch.frames.shape[1] // parts
    for begin in range(0, size * parts, size):
        own = (batch.owners >= begin) & (batch.owners < begin + size)
        frames = batch.frames[:, begin : begin + size]
        yield frames, batch.masks[:, own], batch.owners[own] - begin


class TrainStep:
    """Network, moving average and optimiser, one step at a time.

    Args:
        config: of the training.
        network: with its starting weights; moved to the device.
        fabric: launched.

    Attributes:
        network: in training mode.
        ema: moving average of its weights.
    """

    def __init__(self, config: TrainConfig, network: AnySegmenter, fabric: Fabric) -> None:
        self.config, self.network, self._fabric = config, network, fabric
        network.train()
        self.ema = EMA(network, config.ema_decay)
        self.ema.network.to(fabric.device)
        groups = parameter_groups(network, config.optimiser)
        self._rates = [group["lr"] for group in groups]
        kind = torch.optim.AdamW if config.optimiser.kind == "adamw" else torch.optim.Adam
        self._optimiser: torch.optim.Optimizer = kind(
            groups, betas=config.optimiser.betas, weight_decay=config.optimiser.weight_decay
        )
        # The wrappers of Fabric: autocast, scaling of fp16 and averaging over devices.
        self._model, self._stepper = fabric.setup(
            Rollout(network, corruption=config.corruption), self._optimiser
        )

    def run(self, batch: Batch, *, step: int, first: int) -> StepMetrics:
        """Take one optimiser step.

        Args:
            batch: this device's share.
            step: how many there were before.
            first: number, in the run, of the first of these clips; the others follow it.
        """
        config, fabric = self.config, self._fabric
        done, parts = step / config.steps, config.grad_accumulation
        share = rate_at(done, config.schedule)
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        losses, regions = [], []
        for index, piece in enumerate(_pieces(batch, parts), 1):
            clip, mask, owners = (x.to(fabric.device, non_blocking=True) for x in piece)
            count = clip.shape[1]
            # By a clip's number in the run: neither the share of a batch that a process has, nor
            # the clip's place in it, nor the step of a resume changes the errors.
            rngs = [SeedStream.CORRUPTION.rng(config.seed, first + i) for i in range(count)]
            windows = [SeedStream.WINDOWS.rng(config.seed, first + i) for i in range(count)]
            first += count
            moves: list[Move] = []
            if config.windows and self.network.feeds_back_mask:
                clip, mask, moves = move_windows(clip, mask, owners, config.windows, windows)
            with fabric.no_backward_sync(self._model, enabled=index < parts):
                logits = self._model(clip, mask[0], owners, rngs, moves)
                target = mask[1:].float() / 255
                loss = training_loss(logits, target, config.loss, done, owners)
                fabric.backward(loss / parts)
            losses.append(loss.detach())
            regions.append(mean_over_clips(jaccard(logits.detach(), target), owners))
        gradient = fabric.clip_gradients(
            self._model,
            self._stepper,
            max_norm=config.optimiser.grad_clip_norm,
            error_if_nonfinite=False,
        )
        assert gradient is not None  # which it is where values are clipped, not the norm
        self._stepper.step()
        self._stepper.zero_grad(set_to_none=True)
        self.ema.update(self.network, step + 1)
        loss, region = torch.stack(losses).mean(), torch.stack(regions).mean()
        return StepMetrics(loss, region, gradient, self._rates[-1] * share)

    def state(self) -> dict[str, Any]:
        """Return what :meth:`restore` needs, less the average."""
        return {
            "weights": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "precision": self._fabric.strategy.precision.state_dict(),
        }

    def restore(self, state: dict[str, Any], average: dict[str, Tensor]) -> None:
        """Go back to what :meth:`state` gave, and to an average."""
        self.network.load_state_dict(state["weights"])
        self.ema.network.load_state_dict(average)
        self._optimiser.load_state_dict(state["optimiser"])
        if state["precision"]:
            self._fabric.strategy.precision.load_state_dict(state["precision"])
