#!/usr/bin/env bash
# One command on a machine with a GPU: parity in every dtype, then the benchmarks. Results go to ${OUT:-bench/results}.
# aekit need not be installed: this lays out a copy as the package would be.
set -uo pipefail
cd "$(dirname "$0")/.."
export OUT="${OUT:-$PWD/bench/results}"
mkdir -p "$OUT"
python="${PYTHON:-python3}"

site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
cp -r aekit "$site/aekit"
cp -r kernels "$site/aekit/kernels"
cp -r cli "$site/aekit/cli"
export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# -P: the checkout's own aekit/, which has no kernels in it, stays off the path

status=0
# eight minutes in all: each part is cut where it takes longer, and what it wrote until then stays
# a new torch may warn of anything: that is no reason to have no figures
timeout 180 "$python" -P -m pytest tests/kernels -p no:cacheprovider -W default 2>&1 | tee "$OUT/parity.txt" || status=1
timeout 240 "$python" -P bench/kernels.py 2>&1 | tee "$OUT/kernels.txt" || status=1
exit $status
