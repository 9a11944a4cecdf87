"""Engines of the processor."""
