#!/usr/bin/env bash
# Trains an encoder by every recipe, all on the same generator and for as many steps, and evaluates them side by side:
#
#     scripts/compare_recipes.sh GENERATOR TRAIN.zip HELD.zip OUTDIR
#
# PAIRS and EPOCHS set the length, PHOTOS how many faces are judged, RECIPES which rows there are, ENCODER_OPTIONS what
# else `facegen train-encoder` is told (as --bf16). The tables are in OUTDIR/report. Run it again after an interruption:
# encoders that are finished are kept.
set -euo pipefail
source "$(dirname "$0")/once.sh"
generator=${1:?"which generator? give its weights or run folder"}
train=${2:?"which training archive?"}
held=${3:?"which archive of held-out faces?"}
outdir=${4:?"where to?"}
facegen=${FACEGEN:-.venv/bin/facegen}
recipes=${RECIPES:-zmse zcos w w+ image real near adversarial age}
photos=${PHOTOS:-200}
age_estimator=${AGE_ESTIMATOR:-}

compare=()
for recipe in $recipes; do
    once "$outdir/$recipe" train-encoder --generator "$generator" --recipe "$recipe" --data "$train" \
        --pairs "${PAIRS:-4000}" --epochs "${EPOCHS:-6}" --init none --blocks 2,1,0 --input-size 80 --lr 8e-4 \
        ${age_estimator:+--age-estimator "$age_estimator"} ${ENCODER_OPTIONS:-}
    compare+=(--compare "$recipe=$(run_of "$outdir/$recipe")")
done
# The first recipe, of z, also by the other method of aging.
"$facegen" evaluate --photos "$held" --photos-limit "$photos" --generator "$generator" --outdir "$outdir/report" --force \
    --name "${recipes%% *}" --encoder "$(run_of "$outdir/${recipes%% *}")" "${compare[@]:2}" \
    --compare "${recipes%% *} shifted=$(run_of "$outdir/${recipes%% *}"),method=shift"
