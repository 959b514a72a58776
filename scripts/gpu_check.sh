#!/usr/bin/env bash
# Checks on a machine with a GPU what a machine without one cannot, in less than nine minutes, and keeps the results as
# files:
#
#     scripts/gpu_check.sh [faces64.zip [out/gpu-check]]
#
# The archive comes from `facegen prepare`; without one, made-up pictures are trained on. The package has to be installed
# with its test tools (`make test` does that); the compiled operations need a CUDA toolkit, too. A step that fails or
# takes too long does not stop the others: summary.txt tells of each.
set -uo pipefail
data=${1:-}
out=${2:-out/gpu-check}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"
: >"$out/summary.txt"
failed=0

# step NAME SECONDS COMMAND...: run it, its output into NAME.txt, no longer than that
step() {
    local name=$1 limit=$2 start=$SECONDS status=0
    shift 2
    echo "== $name"
    timeout --kill-after=5 "$limit" "$@" >"$out/$name.txt" 2>&1 || status=$?
    tail -n 5 "$out/$name.txt"
    case $status in
        0) status="ok" ;;
        124 | 137) status="FAILED: not done after $limit s" ;;
        *) status="FAILED with exit status $status" ;;
    esac
    [[ $status == ok ]] || failed=1
    printf '%-18s %4d s  %s\n' "$name" $((SECONDS - start)) "$status" | tee -a "$out/summary.txt"
}

"$python" -c "import torch; assert torch.cuda.is_available()" 2>/dev/null || {
    echo "PyTorch finds no CUDA GPU on this machine; facegen doctor tells more" | tee -a "$out/summary.txt" >&2
    exit 1
}

# The limits add up to less than nine minutes. The first step builds the operations, so that no other waits for that.
step doctor 100 "$python" -m facegen doctor --build
step pytest-gpu 120 "$python" -m pytest -m gpu -q --durations=10
step bench-ops 50 "$python" scripts/bench_ops.py
step bench 20 "$python" scripts/bench.py
step bench-plain 20 env TORCH_UTILS_OPS=off "$python" scripts/bench.py
step bench-256 20 "$python" scripts/bench.py --resolution 256 --rounds 4

if [[ -z $data ]]; then
    data=$out/made-up.zip
    step made-up-pictures 10 "$python" - "$data" <<'PY'
import io, json, sys, zipfile
import numpy as np
from PIL import Image

rng, labels = np.random.default_rng(0), []
with zipfile.ZipFile(sys.argv[1], "w") as archive:
    for i in range(500):
        small = Image.fromarray(rng.integers(0, 256, [4, 4, 3], dtype=np.uint8))
        content, name = io.BytesIO(), f"00000/img{i:08d}.png"
        small.resize([64, 64], Image.Resampling.BICUBIC).save(content, "png")
        archive.writestr(name, content.getvalue())
        labels.append([name, i % 10])
    archive.writestr("dataset.json", json.dumps({"labels": labels}))
PY
fi

# What each way of saving time brings, one after the other: docs/performance.md has the table to fill.
step bench-gpu 50 "$python" scripts/bench_gpu.py "$data"
step bench-compile 55 "$python" scripts/bench_gpu.py "$data" --compile --steps 32

# A training from the command line, whose tick lines say how fast it is. Then what is built upon a generator.
runs=$out/runs-$(date +%Y%m%d-%H%M%S)
train=("$python" -m facegen train --data "$data" --outdir "$runs" --cfg auto --mirror --tick 1 --snap 100)
step train 35 "${train[@]}" --kimg 4
generator=$(compgen -G "$runs/00000-*")
step encoder 30 "$python" -m facegen train-encoder --generator "$generator" --outdir "$runs" --init none --pairs 500 --epochs 1
photo=$("$python" -c 'import matplotlib.cbook as c; print(c.get_sample_data("grace_hopper.jpg", asfileobj=False))')
step transfer 20 "$python" -m facegen transfer "$photo" --generator "$generator" --encoder "$(compgen -G "$runs/0000[1-9]-*encoder*" | head -n 1)" --outdir "$out"

# Stray accesses and races in the kernels, for as long as there is time: the tool slows them down a hundredfold.
if command -v compute-sanitizer >/dev/null; then
    few='golden_bias_act or what_is_not or (shapes_of_stylegan and float16 and not 24)'
    for tool in memcheck racecheck; do
        left=$(((540 - SECONDS) / 2))
        step "$tool" $((left > 5 ? left : 5)) env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" \
            --error-exitcode 9 "$python" -m pytest -m gpu -q tests/torch_utils/test_ops_on_gpu.py -k "$few"
    done
else
    echo "memcheck, racecheck   not run: there is no compute-sanitizer" | tee -a "$out/summary.txt"
fi
echo "Results are in $out"
exit $failed
