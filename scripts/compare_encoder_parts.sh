#!/usr/bin/env bash
# What each part of the encoder's training is worth: trains an encoder without it and with it, all on the same generator
# and for as many steps, and evaluates them side by side:
#
#     scripts/compare_encoder_parts.sh GENERATOR TRAIN.zip HELD.zip FACE_NETWORK OUTDIR
#
# zmse is the recipe of the beginning, age adds pictures and real faces; then come the face network, the features of a
# photo classifier, the loss that keeps the sex, and at last the generator is tuned. PAIRS and EPOCHS set the length,
# PHOTOS how many faces are judged, INIT the trunk that all start from. The tables are in OUTDIR/report. Run it again
# after an interruption: encoders that are finished are kept.
set -euo pipefail
source "$(dirname "$0")/once.sh"
generator=${1:?"which generator? give its weights or run folder"}
train=${2:?"which training archive?"}
held=${3:?"which archive of held-out faces?"}
face_network=${4:?"which face recognition network? give its file"}
outdir=${5:?"where to?"}
facegen=${FACEGEN:-.venv/bin/facegen}

compare=()
# Trains an encoder NAME by a recipe with these options.
part() {
    local name=$1 recipe=$2
    shift 2
    once "$outdir/$name" train-encoder --generator "$generator" --recipe "$recipe" --data "$train" \
        --pairs "${PAIRS:-5000}" --epochs "${EPOCHS:-2}" --blocks 2,1,0 --input-size 80 --lr 8e-4 --lr-step 1 "$@" \
        ${AGE_ESTIMATOR:+--age-estimator "$AGE_ESTIMATOR"}
    compare+=(--compare "$name=$(run_of "$outdir/$name")")
}

init=${INIT:-none}
part zmse zmse --init "$init"
part age age --init "$init" --sex-weight 0
part face identity --init "$init" --sex-weight 0 --perceptual-weight 0 --face-network "$face_network"
part perceptual identity --init "$init" --sex-weight 0 --face-network "$face_network"
part sex identity --init "$init" --face-network "$face_network"
part tune tune --init "$init" --face-network "$face_network"
"$facegen" evaluate --photos "$held" --photos-limit "${PHOTOS:-100}" --generator "$generator" --outdir "$outdir/report" \
    --force --name zmse --encoder "$(run_of "$outdir/zmse")" "${compare[@]:2}"
