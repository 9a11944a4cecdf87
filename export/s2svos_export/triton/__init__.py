"""Model repositories for Triton Inference Server. Needs the extras ``train`` and ``triton``."""

from s2svos_export.triton.repository import write_model_repository

__all__ = ["write_model_repository"]
