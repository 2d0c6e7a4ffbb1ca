#!/usr/bin/env bash
# One command on a machine with a GPU: parity in every dtype, then the benchmarks. Results go to ${OUT:-bench/results}.
# aekit need not be installed: this lays out a copy as the package would be. MNIST is taken from AEKIT_DATA, or carry/.
set -uo pipefail
cd "$(dirname "$0")/.."
export OUT="${OUT:-$PWD/bench/results}" AEKIT_DATA="${AEKIT_DATA:-$PWD/carry}"
mkdir -p "$OUT"
python="${PYTHON:-python3}"

site="$(mktemp -d)"
trap 'rm -rf "$site"' EXIT
cp -r aekit "$site/aekit"
cp -r kernels "$site/aekit/kernels"
cp -r cli "$site/aekit/cli"
export PYTHONPATH="$site:$PWD/bench${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
# -P: the checkout's own aekit/, which has no kernels in it, stays off the path

status=0
# eight minutes in all: each part is cut where it takes longer, and what it wrote until then stays
# a new torch may warn of anything: that is no reason to have no figures
# parity compiles hundreds of kernels: a process for each operation, and one for the other tests
names='from aekit.kernels import KERNELS
for name in KERNELS: print(" and not ".join([name, *(other for other in KERNELS if name in other and name != other)]))'
mapfile -t parts < <("$python" -P -c "$names")
jobs=()
for part in "${parts[@]}" ""; do
    file="$OUT/parity-${part%% *}.txt"
    what=(tests/kernels/test_parity.py -k "$part")
    [ -n "$part" ] || {
        file="$OUT/parity.txt"
        what=(tests/kernels tests/test_layers.py tests/test_graphs.py tests/test_inference.py
            --ignore tests/kernels/test_parity.py)
    }
    timeout 150 "$python" -P -m pytest "${what[@]}" -p no:cacheprovider -W default > "$file" 2>&1 &
    jobs+=($!)
done
for job in "${jobs[@]}"; do wait "$job" || status=1; done
tail -n 3 "$OUT"/parity*.txt
timeout 190 "$python" -P bench/kernels.py 2>&1 | tee "$OUT/kernels.txt" || status=1
[ -d "$AEKIT_DATA/mnist" ] || { echo "no MNIST in $AEKIT_DATA: training and scoring are not timed"; exit 1; }
timeout 135 "$python" -P bench/pipelines.py gpu 2>&1 | tee "$OUT/pipelines.txt" || status=1
exit $status
