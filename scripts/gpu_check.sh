#!/usr/bin/env bash
# Checks on a machine with a GPU what a machine without one cannot, and keeps the results as files:
#
#     scripts/gpu_check.sh faces64.zip out/gpu-check
#
# The archive comes from `facegen prepare`. A few minutes once the package is installed (`make test` does that).
set -euo pipefail
data=${1:?"which training archive? (facegen prepare makes one)"}
out=${2:-out/gpu-check}
python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

"$python" -c "import torch; assert torch.cuda.is_available(), 'no CUDA device'; print(torch.cuda.get_device_name(), torch.__version__)" |
    tee "$out/device.txt"
"$python" -m pytest -m gpu 2>&1 | tee "$out/pytest-gpu.txt"
"$python" scripts/bench.py 2>&1 | tee "$out/bench.txt"
# Mixed precision, then float32: both must learn, and the tick lines say how fast.
"$python" -m facegen train --data "$data" --outdir "$out" --cfg auto --mirror --kimg 60 --tick 4 --snap 5
"$python" -m facegen train --data "$data" --outdir "$out" --cfg auto --mirror --kimg 20 --tick 4 --snap 5 --fp32
"$python" -m facegen train-encoder --generator "$(compgen -G "$out/00000-*")" --outdir "$out" --init none --pairs 2000 --epochs 2
"$python" -m facegen transfer "$("$python" -c 'import matplotlib.cbook as c; print(c.get_sample_data("grace_hopper.jpg", asfileobj=False))')" \
    --generator "$(compgen -G "$out/00000-*")" --encoder "$(compgen -G "$out/00002-*")" --outdir "$out"
