"""The training loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from s2svos.data.dataset import Batch, Mixture, batches
from s2svos.interrupt import Interrupt
from s2svos.network.checkpoint import save_checkpoint
from s2svos.network.segmenter import AnySegmenter
from s2svos.training.config import TrainConfig
from s2svos.training.config_file import described, settings_to_json
from s2svos.training.distributed import (
    code_version,
    everyone,
    mean_of_all,
    open_devices,
    random_state,
    set_random_state,
)
from s2svos.training.divergence import Divergence
from s2svos.training.run_log import Records, Step
from s2svos.training.step import TrainStep
from s2svos.training.validation import Video, score_video
from s2svos_engines.errors import UserError


class Trainer:
    """The training of one network into a folder.

    The folder gets ``last.pt`` (everything, every ``checkpoint_every`` steps), ``best.pt`` (by
    validation J&F), ``final.pt`` (averaged weights alone), and what :class:`Records` writes.

    Args:
        config: how to train.
        network: with its starting weights, see
            :func:`s2svos.training.initial_weights.starting_network`.
        source: of the clips.
        out: the folder.
        videos: that the averaged weights are scored by.
        resume: the fields of ``last.pt``, to go on from there.

    Attributes:
        step: optimiser steps that are done.
        clips: clips that they took, which is where the sampler stands.

    Raises:
        UserError: the machine lacks what the config wants.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        network: AnySegmenter,
        source: Mixture,
        out: Path,
        videos: Sequence[Video] = (),
        resume: dict[str, Any] | None = None,
    ) -> None:
        self.config, self.source, self.out, self.videos = config, source, out, videos
        self.step = self.clips = self._saved = 0
        self._network, self._resume = network, resume
        self._fabric = open_devices(config)
        self._divergence = Divergence(config.divergence)
        self._best = -1.0
        self._scores: dict[str, Any] | None = None
        self._code = code_version()

    def run(self, report: Callable[[Step], None] = lambda step: None) -> Path:
        """Train to the end.

        Args:
            report: called after every step, in the first process alone.

        Returns:
            Path of the final checkpoint, which holds the averaged weights.

        Raises:
            UserError: the training diverged, or clips or files are at fault; ``last.pt`` is whole
                and from before that.
            KeyboardInterrupt: the user or the system stopped it; ``last.pt`` is of that moment.
        """
        fabric = self._fabric
        fabric.launch()
        torch.manual_seed(self.config.seed + fabric.global_rank)
        self._train_step = TrainStep(self.config, self._network, fabric)
        if self._resume:
            self._restore(self._resume)
        first = fabric.is_global_zero
        with (
            Interrupt() as interrupt,
            Records(self.config, self.out, self.step) if first else nullcontext() as records,
        ):
            for waited, batch in self._batches():
                step, stopped = self._train(waited, batch, stop=interrupt.wanted)
                step = self._validate(step, records)
                if records:
                    records.write(step)
                    report(step)
                due = self.step - self._saved >= self.config.checkpoint_every
                if (due or stopped or self.step == step.steps) and not self._divergence.suspect:
                    self._save_last()
                if stopped:
                    raise KeyboardInterrupt
            final = self._save("final.pt")
        fabric.barrier()
        return final

    def _batches(self) -> Iterator[tuple[float, Batch]]:
        """Yield the batches that are left, each with the seconds spent waiting for it."""
        end = 0
        for phase in self.config.phase_steps:
            end += phase.steps
            if end <= self.step:
                continue
            made = batches(
                self.source,
                phase,
                seed=self.config.seed,
                first=self.clips,
                count=end - self.step,
                workers=self.config.workers,
                rank=self._fabric.global_rank,
                world=self._fabric.world_size,
            )
            with closing(made) as loader:
                begun = time.perf_counter()
                for batch in loader:
                    yield time.perf_counter() - begun, batch
                    begun = time.perf_counter()

    def _train(self, waited: float, batch: Batch, *, stop: bool) -> tuple[Step, bool]:
        """Take one optimiser step; return it and whether a process wants to stop after it."""
        fabric, begun = self._fabric, time.perf_counter()
        share = batch.frames.shape[1]
        first = self.clips + fabric.global_rank * share
        figures = self._train_step.run(batch, step=self.step, first=first)
        clips = share * fabric.world_size
        self.step += 1
        self.clips += clips
        # The one place where a GPU is waited for. What one process wants, all do.
        shared = torch.stack([figures.loss, figures.jaccard, torch.full_like(figures.loss, stop)])
        loss, jaccard, stopping = mean_of_all(fabric, shared)
        gradient = figures.gradient.item()
        scaled = self.config.precision == "fp16"
        problem = self._divergence.problem(loss, gradient, scaled=scaled)
        if problem:
            raise UserError(self._advice(problem, everyone(fabric, batch.sources)))
        step = Step(
            step=self.step,
            steps=self.config.steps,
            loss=loss,
            jaccard=jaccard,
            learning_rate=figures.learning_rate,
            gradient=gradient,
            seconds=waited + time.perf_counter() - begun,
            waiting=waited,
            clips=clips,
        )
        return step, stopping > 0

    def _advice(self, problem: str, sources: list[str]) -> str:
        last, optimiser = self.out / "last.pt", self.config.optimiser
        go_on = f"go on from {last} with --resume" if last.is_file() else "begin again"
        return (
            f"Step {self.step}: {problem} (clips: {', '.join(sources)}); {go_on}, a lower --lr "
            f"(it is {optimiser.lr:g}) or optimiser.grad_clip_norm ({optimiser.grad_clip_norm:g}), "
            "or --precision fp32."
        )

    def _validate(self, step: Step, records: Records | None) -> Step:
        """Score the averaged weights if it is time; each process takes a share of the videos."""
        every, last = self.config.validation.every, step.step == step.steps
        due = self.videos and (last or step.step % every == 0)
        if not due or self._divergence.suspect:
            return step
        fabric, network = self._fabric, self._train_step.ema.network
        mine = list(enumerate(self.videos))[fabric.global_rank :: fabric.world_size]
        scored = everyone(
            fabric, [(i, score_video(network, video, fabric.device)) for i, video in mine]
        )
        scores = [score for _, score in sorted(scored, key=lambda pair: pair[0])]
        j = sum(score.j for score in scores) / len(scores)
        f = sum(score.f for score in scores) / len(scores)
        self._scores = {"step": step.step, "j": j, "f": f, "videos": [s.name for s in scores]}
        if records:
            records.show(scores, step.step)
        if (j + f) / 2 > self._best:
            self._best = (j + f) / 2
            self._save("best.pt")
        return replace(step, validation=(j, f))

    def _save_last(self) -> None:
        """Write all that a run needs to go on; every process must call it."""
        resume = {
            **self._train_step.state(),
            "step": self.step,
            "clips": self.clips,
            "best": self._best,
            "scores": self._scores,
            "divergence": {"mean": self._divergence.mean, "far": self._divergence.far},
            "random": everyone(self._fabric, [random_state()]),
            "config": settings_to_json(self.config),
        }
        self._save("last.pt", resume)
        self._saved = self.step

    def _save(self, name: str, resume: dict[str, Any] | None = None) -> Path:
        path, ema = self.out / name, self._train_step.ema
        if self._fabric.is_global_zero:
            facts = {
                **self.source.facts(),
                "training": described(self.config),
                "steps": self.step,
                "clips": self.clips,
                "validation": self._scores,
                "code": self._code,
            }
            weights = ema.weights(self._network)
            save_checkpoint(
                path, config=self._network.config, weights=weights, facts=facts, resume=resume
            )
        return path

    def _restore(self, data: dict[str, Any]) -> None:
        resume, fabric = data["resume"], self._fabric
        self._train_step.restore(resume, data["weights"])
        self.step, self.clips = resume["step"], resume["clips"]
        self._saved = self.step
        self._best, self._scores = resume["best"], resume["scores"]
        mean, far = resume["divergence"]["mean"], int(resume["divergence"]["far"] or 0)
        self._divergence = Divergence(self.config.divergence, mean, far)
        if len(resume["random"]) == fabric.world_size:  # else they are what the seed makes them
            set_random_state(resume["random"][fabric.global_rank])
