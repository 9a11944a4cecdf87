"""Online learning: a bundle's network is tuned to the objects of one first frame.

As in the paper (arXiv 1809.00461), pairs synthesised from the first frame tune everything but the
ConvLSTM, which holds what was learned of motion. Statistics of BatchNorm do not move either, since
they are folded into the convolutions.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from s2svos.adapt.config import Adaptation, AdaptConfig, AdaptProgress
from s2svos.adapt.network import BundleNetwork
from s2svos.adapt.synthesis import FirstFrame, ObjectClip
from s2svos.training.loss import hard_cross_entropy, jaccard, soft_dice
from s2svos_engines.arrays import Frame, Labels
from s2svos_engines.bundle import Bundle, write_bundle
from s2svos_engines.cpu import cpu_count
from s2svos_engines.engine import Engine
from s2svos_engines.errors import UserError
from s2svos_engines.registry import load_engine
from s2svos_engines.tracker import Tracker

BOOTSTRAP_RATIO, DICE, GRAD_CLIP_NORM = 0.25, 0.5, 1.0  # as late in training
VIEWS = 4  # clips on which before and after are compared; none of them is trained on
_TRAIN, _VIEW = 0, 1  # second number of a clip's seed: no view is ever trained on


def adapt(
    tracker: Tracker,
    frame: Frame,
    labels: Labels,
    *,
    config: AdaptConfig | None = None,
    threads: int | None = None,
    report: Callable[[AdaptProgress], None] | None = None,
) -> tuple[Tracker, Adaptation]:
    """Tune a tracker's network to the objects of a first frame, all of them together.

    Args:
        tracker: gives the bundle; it stays as it is.
        frame: uint8 [H, W, 3], RGB.
        labels: uint8 [H, W], ids of the objects in it, 0 for the background.
        config: how to tune; None for the defaults.
        threads: processor threads of tuning and of the new tracker; None for one a core.
        report: called after every step.

    Returns:
        A tracker for this video on the same kind of engine, and the result.

    Raises:
        UserError: the bundle's graphs have an unknown operator, or tuning diverged.
    """
    config = config or AdaptConfig()
    began = time.perf_counter()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = BundleNetwork(tracker.bundle, device)
    source = FirstFrame(frame, labels, (network.contract.height, network.contract.width))
    views = [source.sample(_rng(config, _VIEW, index), config.length) for index in range(VIEWS)]
    with _threads(threads):
        before = _mean_jaccard(network, views)
        tune(network, source, config, report)
        after = _mean_jaccard(network, views)
    better = after > before
    if better:
        engine = _engine(tracker, network, config, threads)
        tracker = Tracker(tracker.bundle, engine, window=tracker.window)
    return tracker, Adaptation(
        objects=views[0].masks.shape[1],
        **asdict(config),
        device=str(device),
        seconds=time.perf_counter() - began,
        before=before,
        after=after,
        used=better,
    )


def tune(
    network: BundleNetwork,
    source: FirstFrame,
    config: AdaptConfig,
    report: Callable[[AdaptProgress], None] | None = None,
) -> None:
    """Tune a network's weights in place, all but the ConvLSTM's.

    Args:
        network: to tune.
        source: of the clips.
        config: how to tune.
        report: called after every step.

    Raises:
        UserError: the loss is no longer a number.
    """
    began = time.perf_counter()
    weights = [w for name, w in network.weights.items() if name not in network.recurrent]
    for weight in weights:
        weight.requires_grad_()
    optimizer = torch.optim.Adam(weights, config.learning_rate)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, config.steps)
    for step in range(1, config.steps + 1):
        logits, target = _rollout(network, source.sample(_rng(config, _TRAIN, step), config.length))
        losses = hard_cross_entropy(logits, target, BOOTSTRAP_RATIO)
        loss = (losses + DICE * soft_dice(logits, target)).mean()
        if not torch.isfinite(loss):
            raise UserError(
                f"Tuning to the first frame diverged at step {step}: the loss is {loss.item()}",
                "lower --adapt-rate",
            )
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(weights, GRAD_CLIP_NORM)
        optimizer.step()
        schedule.step()
        if report:
            seconds = time.perf_counter() - began
            left = seconds / step * (config.steps - step)
            report(AdaptProgress(step, config.steps, loss.item(), seconds, left))
    for weight in weights:
        weight.requires_grad_(False)


def _rollout(network: BundleNetwork, clip: ObjectClip) -> tuple[Tensor, Tensor]:
    """Return logits and truth of all frames but the first, both float [T - 1, N, 1, H, W]."""
    frames = torch.from_numpy(clip.frames).to(network.device)
    masks = torch.from_numpy(clip.masks).to(network.device)
    states = network.init(frames[0], masks[0])
    logits = []
    for frame in frames[1:]:
        found, states = network.advance(frame, *states)
        logits.append(found)
    return torch.stack(logits)[:, :, None], masks[1:, :, None].float() / 255


@torch.no_grad()
def _mean_jaccard(network: BundleNetwork, views: Sequence[ObjectClip]) -> float:
    """Return the mean J over clips, frames and objects."""
    return float(np.mean([jaccard(*_rollout(network, view)).mean().item() for view in views]))


def _engine(
    tracker: Tracker, network: BundleNetwork, config: AdaptConfig, threads: int | None
) -> Engine:
    """Load the tuned network on the tracker's kind of engine."""
    bundle = tracker.bundle
    facts = {key: value for key, value in bundle.manifest.facts.items() if key != "parity"}
    facts["adapted"] = {"bundle": bundle.sha256, **asdict(config)}
    try:
        with tempfile.TemporaryDirectory(prefix="s2svos-") as folder:
            path = Path(folder) / "adapted.s2s"
            graphs = {"fp32": network.graphs()}
            write_bundle(path, contract=bundle.contract, graphs=graphs, facts=facts)
            return load_engine(Bundle.open(path), tracker.engine_name, threads=threads)
    except OSError as error:
        raise UserError(
            f"The tuned weights cannot be written to {tempfile.gettempdir()} ({error.strerror})",
            "free space there or set TMPDIR to another folder",
        ) from error


def _rng(config: AdaptConfig, purpose: int, index: int) -> np.random.Generator:
    """Return the random numbers of one clip, which is to be trained on or to be compared on."""
    return np.random.default_rng([config.seed, purpose, index])


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    """Let PyTorch use that many threads, None for one a core."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or cpu_count())
    try:
        yield
    finally:
        torch.set_num_threads(before)
