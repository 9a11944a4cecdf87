"""Engines that stream frames through a bundle's graphs. Needs no torch.

Names are imported when they are first used, since NumPy and OpenCV take 0.1 s.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from s2svos_engines.bundle import Bundle
    from s2svos_engines.dynamic_batcher import DynamicBatcher
    from s2svos_engines.errors import UserError
    from s2svos_engines.registry import load_engine
    from s2svos_engines.tracker import Stream, Tracker

__all__ = ["Bundle", "DynamicBatcher", "Stream", "Tracker", "UserError", "load_engine"]

_MODULES = {
    "Bundle": "bundle",
    "DynamicBatcher": "dynamic_batcher",
    "Stream": "tracker",
    "Tracker": "tracker",
    "UserError": "errors",
    "load_engine": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
