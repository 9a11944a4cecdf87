#!/bin/sh
# What only a GPU can tell, needing no network and at most 10 minutes; from the repository:
#     sh benchmarks/gpu.sh OUT BUNDLE...
# The conformance suite on the GPU's engines, and for each bundle the ways to go from step to step.
# Streams in one call are a group of the latency suite, latency/suite.sh. PYTHON names the interpreter.
set -eu
[ $# -ge 2 ] || { echo "usage: sh benchmarks/gpu.sh OUT BUNDLE..." >&2; exit 2; }
out=$1
shift
python=${PYTHON:-python}
mkdir -p "$out"
timeout 300 "$python" -m pytest -m gpu tests/engines || echo "not all that must hold does" >&2
for bundle in "$@"; do
    timeout 60 "$python" -m benchmarks.cuda_graphs --bundle "$bundle" --json "$out/gpu.jsonl"
done
