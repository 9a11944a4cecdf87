"""The latency suite: how long a step takes on every engine, and how true its masks are.

python -m benchmarks.latency run --quick --out results.jsonl
python -m benchmarks.latency render results.jsonl --out DIR
python -m benchmarks.latency compare before.jsonl after.jsonl
"""
