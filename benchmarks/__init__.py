"""Scripts that measure; run them from the repository, as in python -m benchmarks.end_to_end --help."""
