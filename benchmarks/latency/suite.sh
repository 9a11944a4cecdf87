#!/bin/sh
# The whole suite on this machine, needing no network; from the repository:
#     sh benchmarks/latency/suite.sh OUT BUNDLE[=CHECKPOINT]...
# A run of at most 10 minutes for each bundle; torch.compile takes part where the network's
# checkpoint is named. Stopped, the same command goes on with the bundles that OUT/latency.jsonl
# lacks. PYTHON names the interpreter.
set -eu
[ $# -ge 2 ] || { echo "usage: sh benchmarks/latency/suite.sh OUT BUNDLE[=CHECKPOINT]..." >&2; exit 2; }
out=$1
shift
python=${PYTHON:-python}
for pair in "$@"; do
    bundle=${pair%%=*}
    checkpoint=${pair#"$bundle"}
    timeout 600 "$python" -m benchmarks.latency run --seconds 530 --out "$out/latency.jsonl" \
        --bundle "$bundle" ${checkpoint:+--checkpoint "${checkpoint#=}"}
done
"$python" -m benchmarks.latency render "$out/latency.jsonl"
