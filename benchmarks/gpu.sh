#!/usr/bin/env bash
# On a machine with a GPU, in at most eight minutes: the tests that need one, and the tables of
# docs/performance.md as Markdown. Run from the project's folder; lcam's dependencies and pytest
# must be there.
#
#     benchmarks/gpu.sh > gpu.md
#     benchmarks/gpu.sh --device cpu --networks resnet18 --images 8  # a rehearsal
set -euo pipefail
cd "$(dirname "$0")/.."
export PYTHONPATH=.
python=${PYTHON:-python}
device=cuda
for ((k = 1; k < $#; k++)); do
    if [ "${!k}" = --device ]; then
        next=$((k + 1))
        device=${!next}
    fi
done
echo "# Figures of a GPU"
echo
echo '```console'
failed=0
tests=(tests/gpu)
[ "$device" = cpu ] && tests+=(-m "not slow")  # of a rehearsal: that they run at all
timeout 110 env LCAM_GPU_DEVICE="$device" "$python" -m pytest "${tests[@]}" -q -p no:cacheprovider 2>&1 |
    tail -n 15 || failed=1
echo
echo '```'
echo
timeout 350 "$python" benchmarks/gpu.py --minutes 5 "$@" || failed=1
exit $failed
