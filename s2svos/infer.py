"""The place where :func:`s2svos.inference.run.infer` was, for older programs."""

from __future__ import annotations

from s2svos.inference.run import InferProgress, RunSummary, Seconds, default_out, infer

__all__ = ["InferProgress", "RunSummary", "Seconds", "default_out", "infer"]
