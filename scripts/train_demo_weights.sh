#!/usr/bin/env bash
# Makes the weights in facegen/pretrained/ again, from UTKFace (a folder or zip of its aligned pictures):
#
#     scripts/train_demo_weights.sh UTKFace.zip
#
# About three hours on two CPU cores. Run it again after an interruption: what is finished is kept.
set -euo pipefail
source=${1:?"which UTKFace? give its folder or zip"}
work=${2:-runs/demo-weights}
facegen=${FACEGEN:-.venv/bin/facegen}
python=${PYTHON:-.venv/bin/python}

[ -f "$work/utkface64.zip" ] ||
    "$facegen" prepare "$source" "$work/utkface64.zip" --source utkface --resolution 64

if compgen -G "$work/*-cond-mirror-tiny-*" > /dev/null; then
    "$facegen" train --resume "$(compgen -G "$work/*-cond-mirror-tiny-*")"
else
    "$facegen" train --data "$work/utkface64.zip" --outdir "$work" --cfg tiny --mirror --balance 0.5 --kimg 200
fi

if compgen -G "$work/*-encoder-*" > /dev/null; then
    "$facegen" train-encoder --resume "$(compgen -G "$work/*-encoder-*")"
else
    "$facegen" train-encoder --generator "$(compgen -G "$work/*-cond-mirror-tiny-*")" --outdir "$work" \
        --init none --blocks 2,1,0 --input-size 80 --pairs 10000 --epochs 8 --lr 3e-4
fi

"$python" scripts/export_pretrained.py \
    --generator "$(compgen -G "$work/*-cond-mirror-tiny-*")" --encoder "$(compgen -G "$work/*-encoder-*")" \
    --license "non-commercial research only: trained on UTKFace (see docs/MODEL_CARD.md)"
