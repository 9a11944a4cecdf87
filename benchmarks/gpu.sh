#!/bin/sh
# What only a GPU can tell, needing no network and at most 10 minutes; from the repository:
#     sh benchmarks/gpu.sh OUT ENGINE BUNDLE...
# The conformance suite on the GPU's engines; for each bundle the ways to go from step to step, and 16
# streams in one call, in fp16, by ENGINE. The latency suite is latency/suite.sh. PYTHON names the
# interpreter.
set -eu
[ $# -ge 3 ] || { echo "usage: sh benchmarks/gpu.sh OUT ENGINE BUNDLE..." >&2; exit 2; }
out=$1
engine=$2
shift 2
python=${PYTHON:-python}
mkdir -p "$out"
timeout 300 "$python" -m pytest -m gpu tests/engines || echo "not all that must hold does" >&2
for bundle in "$@"; do
    timeout 60 "$python" -m benchmarks.cuda_graphs --bundle "$bundle" --json "$out/gpu.jsonl"
    timeout 60 "$python" -m benchmarks.batching --engine "$engine" --streams 16 --precision fp16 \
        --bundle "$bundle" --json "$out/gpu.jsonl"
done
