#!/usr/bin/env bash
# Trains a generator in every way against uneven age groups, for as many pictures each, and an encoder for each of them;
# judges the faces that they generate, and what they make of held-out faces:
#
#     scripts/compare_generators.sh TRAIN.zip HELD.zip OUTDIR
#
# KIMG sets the length, PHOTOS and FACES how many are judged, PAIRS and EPOCHS the encoders' length, ENCODER_OPTIONS what
# else `facegen train-encoder` is told (as --bf16). The tables are in OUTDIR/generated.md and OUTDIR/report. Run it again
# after an interruption: what is finished is kept.
set -euo pipefail
source "$(dirname "$0")/once.sh"
train=${1:?"which training archive?"}
held=${2:?"which archive of held-out faces?"}
outdir=${3:?"where to?"}
facegen=${FACEGEN:-.venv/bin/facegen}
python=${PYTHON:-.venv/bin/python}
kimg=${KIMG:-60}
# part N: prints KIMG / N, which bash cannot: it knows whole numbers only.
part() {
    LC_ALL=C awk -v kimg="$kimg" -v parts="$1" 'BEGIN { printf "%g", kimg / parts }'
}
transition=(--t-start-kimg "$(part 6)" --t-end-kimg "$(part 2)")

generators=() systems=()
compare() {
    local name=$1 run encoder
    shift
    once "$outdir/$name" train --data "$train" --cfg tiny --mirror --kimg "$kimg" --keep 1 "$@"
    run=$(run_of "$outdir/$name")
    once "$outdir/${name}_encoder" train-encoder --generator "$run" --recipe "${RECIPE:-real}" --data "$train" \
        --pairs "${PAIRS:-4000}" --epochs "${EPOCHS:-3}" --init none --blocks 2,1,0 --input-size 80 --lr 8e-4 \
        ${ENCODER_OPTIONS:-}
    encoder=$(run_of "$outdir/${name}_encoder")
    generators+=("$name=$run")
    systems+=("$name" "$run" "$encoder")
}
compare "as-they-are"
compare "balanced" --balance 0.5
compare "transition" "${transition[@]}"
compare "transition-balanced" "${transition[@]}" --balance 0.5

"$python" scripts/check_generators.py --data "$train" --faces "${FACES:-100}" "${generators[@]}" | tee "$outdir/generated.md"
compare_with=()
for ((i = 3; i < ${#systems[@]}; i += 3)); do
    compare_with+=(--compare "${systems[i]}=${systems[i + 2]},generator=${systems[i + 1]}")
done
"$facegen" evaluate --photos "$held" --photos-limit "${PHOTOS:-200}" --outdir "$outdir/report" --force --name "${systems[0]}" \
    --generator "${systems[1]}" --encoder "${systems[2]}" "${compare_with[@]}"
