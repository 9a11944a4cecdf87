"""Scripts that measure; run them from the repository, as in python -m benchmarks.engines --help."""
