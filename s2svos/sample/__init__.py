"""The demonstration: a clip drawn by formula, followed by the real command, and judged."""
