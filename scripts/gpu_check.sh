#!/usr/bin/env bash
# Uses a machine with a GPU for what a machine without one cannot do. Results are files.
#
#     scripts/gpu_check.sh check [faces64.zip [out/gpu-check]]    # at most 4 minutes: builds the ops, tests, benches
#     scripts/gpu_check.sh more  [faces64.zip [out/gpu-check]]    # what each change saves, torch.compile, stray accesses
#     scripts/gpu_check.sh train RUN_FOLDER MINUTES [OPTION...]   # goes on with a run, with options of `facegen train`
#
# The archive comes from `facegen prepare`; without one, made-up pictures are trained on. The package has to be installed
# with its test tools (`make test` does that); the compiled operations need a CUDA toolkit, too. A step that fails or
# takes too long does not stop the others: summary.txt tells of each.
set -uo pipefail
part=${1:?"check, more or train? See the head of this script"}
shift
case $part in
    check | more | train) ;;
    *)
        echo "$part: no such part; choose check, more or train" >&2
        exit 2
        ;;
esac
python=${PYTHON:-.venv/bin/python}

if [[ $part == train ]]; then
    run=${1:?"which run folder?"} minutes=${2:?"how many minutes?"}
    # SIGTERM makes a training save itself and exit with 75.
    timeout --preserve-status --signal=TERM --kill-after=60 "${minutes}m" \
        "$python" -m facegen train --resume "$run" "${@:3}"
    status=$?
    [[ $status == 75 ]] && exit 0
    exit $status
fi

data=${1:-}
out=${2:-out/gpu-check}
mkdir -p "$out"
[[ $part == check ]] && : >"$out/summary.txt"
failed=0
deadline=$([[ $part == check ]] && echo 240 || echo 900) # seconds, for all steps

# step NAME SECONDS COMMAND...: run it, its output into NAME.txt, no longer than that
step() {
    local name=$1 limit=$2 start=$SECONDS status=0
    shift 2
    limit=$((limit < deadline - SECONDS ? limit : deadline - SECONDS))
    if ((limit <= 0)); then
        echo "$name   not run: no time left" | tee -a "$out/summary.txt"
        failed=1
        return
    fi
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

if [[ $part == more ]]; then
    # What each way of saving time brings, one after the other.
    step bench-gpu 150 "$python" scripts/bench/gpu.py "$data" --generation
    step bench-compile 120 "$python" scripts/bench/gpu.py "$data" --compile --steps 32
    few='golden_bias_act or what_is_not or (shapes_of_stylegan and float16 and not 24)'
    for tool in memcheck racecheck; do
        command -v compute-sanitizer >/dev/null || {
            echo "$tool   not run: there is no compute-sanitizer" | tee -a "$out/summary.txt"
            continue
        }
        step "$tool" 180 env PYTORCH_NO_CUDA_MEMORY_CACHING=1 compute-sanitizer --tool "$tool" \
            --error-exitcode 9 "$python" -m pytest -m gpu -q tests/torch_utils/test_ops_on_gpu.py -k "$few"
    done
    exit $failed
fi

# The first step builds the operations, so that no other waits for that. An H100 with 16 cores needs 23 s for it.
step doctor 100 "$python" -m facegen doctor --build
step pytest-gpu 75 "$python" -m pytest -m gpu -q --durations=10 tests/networks tests/torch_utils tests/training

# How a training step's time grows with the batch, with recordings and without.
batches=(--batch 16 --batch 64)
step bench-small 55 "$python" scripts/bench/gpu.py "$data" --cfg small "${batches[@]}" --steps 32 \
    --way "as it is" --way "without recordings"
step bench-ops 30 "$python" scripts/bench/ops.py
step bench 15 "$python" scripts/bench/cpu.py
step bench-plain 15 env TORCH_UTILS_OPS=off "$python" scripts/bench/cpu.py

# A training from the command line, whose tick lines say how fast it is. Then what is built upon a generator.
runs=$out/runs-$(date +%Y%m%d-%H%M%S)
train=("$python" -m facegen train --data "$data" --outdir "$runs" --cfg small --mirror --tick 1 --snap 100)
step train 45 "${train[@]}" --kimg 8
generator=$(compgen -G "$runs/00000-*")
step encoder 25 "$python" -m facegen train-encoder --generator "$generator" --outdir "$runs" --init none --pairs 500 --epochs 1
photo=$("$python" -c 'import matplotlib.cbook as c; print(c.get_sample_data("grace_hopper.jpg", asfileobj=False))')
step transfer 20 "$python" -m facegen transfer "$photo" --generator "$generator" --encoder "$(compgen -G "$runs/0000[1-9]-*encoder*" | head -n 1)" --outdir "$out"
echo "Results are in $out"
exit $failed
