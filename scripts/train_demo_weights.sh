#!/usr/bin/env bash
# Makes the weights in facegen/pretrained/ again, from UTKFace (a folder or zip of its aligned pictures):
#
#     scripts/train_demo_weights.sh UTKFace.zip
#
# About two hours on two CPU cores. Run it again after an interruption: what is finished is kept.
set -euo pipefail
source=${1:?"which UTKFace? give its folder or zip"}
work=${2:-runs/demo-weights}
facegen=${FACEGEN:-.venv/bin/facegen}
python=${PYTHON:-.venv/bin/python}

[ -f "$work/utkface64.zip" ] ||
    "$facegen" prepare "$source" "$work/utkface64.zip" --resolution 64

run() { compgen -G "$work/*-$1-*" || true; } # the run folder of that name, if there is one

if [ -z "$(run cond-mirror-tiny)" ]; then
    "$facegen" train --data "$work/utkface64.zip" --outdir "$work" --cfg tiny --mirror --balance 0.5 --kimg 162
elif ! compgen -G "$work/*/network-snapshot-000162.safetensors" > /dev/null; then
    "$facegen" train --resume "$(run cond-mirror-tiny)"
fi

if [ -z "$(run encoder)" ]; then
    "$facegen" train-encoder --generator "$(run cond-mirror-tiny)" --outdir "$work" \
        --init none --blocks 2,1,0 --input-size 80 --pairs 30000 --epochs 7 --lr 8e-4 --lr-step 4
else
    "$facegen" train-encoder --resume "$(run encoder)"
fi

"$python" scripts/export_pretrained.py --generator "$(run cond-mirror-tiny)" --encoder "$(run encoder)" \
    --license "non-commercial research only: trained on UTKFace (see docs/MODEL_CARD.md)"
