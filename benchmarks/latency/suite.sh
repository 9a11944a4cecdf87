#!/bin/sh
# The whole suite on this machine, needing no network; from the repository:
#     sh benchmarks/latency/suite.sh OUT BUNDLE...
# A run of at most 10 minutes for each bundle. Stopped, the same command goes on with the bundles
# that OUT/latency.jsonl lacks. PYTHON names the interpreter.
set -eu
[ $# -ge 2 ] || { echo "usage: sh benchmarks/latency/suite.sh OUT BUNDLE..." >&2; exit 2; }
out=$1
shift
python=${PYTHON:-python}
for bundle in "$@"; do
    timeout 600 "$python" -m benchmarks.latency run --seconds 510 \
        --bundle "$bundle" --out "$out/latency.jsonl"
done
"$python" -m benchmarks.latency render "$out/latency.jsonl"
