#!/usr/bin/env bash
# Makes the weights in facegen/pretrained/ again, from UTKFace (a folder or zip of its aligned pictures), and the report
# on them from the faces that no training has seen:
#
#     scripts/train_demo_weights.sh UTKFace.zip
#
# About seven hours on two CPU cores. Run it again after an interruption: what is finished is kept, what was under way
# goes on.
set -euo pipefail
source "$(dirname "$0")/once.sh"
pictures=${1:?"which UTKFace? give its folder or zip"}
work=${2:-runs/demo-weights}
facegen=${FACEGEN:-.venv/bin/facegen}
python=${PYTHON:-.venv/bin/python}
license="non-commercial research only: trained on UTKFace (see docs/MODEL_CARD.md)"
kimg=${KIMG:-320}

# Near duplicates are dropped, so that no held-out face has a twin among the others.
[ -f "$work/utkface64-held.zip" ] ||
    "$facegen" prepare "$pictures" "$work/utkface64.zip" --resolution 64 --near-duplicates 3 --split train=0.9,held=0.1
train=$work/utkface64-train.zip
held=$work/utkface64-held.zip

once "$work/generator" train --data "$train" --cfg tiny --mirror --balance 0.5 --kimg "$kimg"
generator=$(run_of "$work/generator")

# Two estimators that share no picture and no design: one to learn from, one to judge.
once "$work/age" train-age --data "$train" --val "$held" --half first --kimg 120 --seed 1 --license "$license"
once "$work/age_judge" train-age --data "$train" --val "$held" --half second --arch plain --both-sides --seed 2 \
    --balance 0.7 --ema 200 --license "$license"
age=$(run_of "$work/age")

encoder_options=(--generator "$generator" --data "$train" --age-estimator "$age" --init none --blocks 2,1,0
    --input-size 80 --lr 8e-4 --lr-step 4)
once "$work/encoder" train-encoder --recipe age --pairs 15000 --epochs 10 "${encoder_options[@]}"
once "$work/encoder_zmse" train-encoder --recipe zmse --pairs 15000 --epochs 10 "${encoder_options[@]}"

"$python" scripts/export_pretrained.py --generator "$generator" --encoder "$(run_of "$work/encoder")" \
    --age "$age" --age-judge "$(run_of "$work/age_judge")" --license "$license"

"$facegen" evaluate --photos "$held" --outdir "$work/report" --photos-limit 200 \
    --compare "zmse=$(run_of "$work/encoder_zmse")"
