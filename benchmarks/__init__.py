"""Scripts that measure; run them from the repository: python -m benchmarks.end_to_end --help."""
