#!/usr/bin/env bash
# Makes the pictures of README.md and docs/ again from the weights in the package, into docs/images:
#
#     scripts/make_pictures.sh                  # all of them
#     scripts/make_pictures.sh photos latents   # some
#
#     photos        people at other ages, README's first picture
#     app           the page; needs a Chromium
#     architecture  the way of a photo through the networks
#     paste_back    the change or the whole face, by the lines of docs/paste_back.md
#     methods       the three methods, by the lines of docs/editor.md
#     transfer      the strips of docs/transfer.md
#     latents       the pictures of docs/latents.md
#     fakes         faces of every age group, drawn by the generator, for docs/MODEL_CARD.md
#     swap          the swapped strip of docs/transfer.md       } each only if the
#     report        the report on an archive                    } variable below
#     dial          the chart of an evaluation                  } says from what
#
# The photos are in the public domain: matplotlib's of Grace Hopper, the page's example, and two among the tests of
# face_recognition, which pip fetches from PyPI unless PORTRAITS names a folder with obama.jpg and biden.jpg.
#
#     SWAP_ENCODER=RUN      an encoder of the recipe zmse, trained for the generator in the package
#     REPORT=FILE           ZIP.report.html of an archive whose faces may be shown
#     EVALUATION=FILE       report.html of `facegen evaluate` for the weights in the package
#     PYTHON=COMMAND        instead of .venv/bin/python, with the extra dev
#
# Look at every picture afterward; the texts beside them may need new words. docs/images/age_estimator.png comes with
# docs/age_estimator.md.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
images=docs/images
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
hopper=$("$python" -c 'from matplotlib.cbook import get_sample_data as get; print(get("grace_hopper.jpg", asfileobj=False))')

# to_jpeg PICTURE NAME: keeps it as docs/images/NAME.
to_jpeg() {
    "$python" -c 'import sys; from facegen.images import open_photo, save_picture; save_picture(open_photo(sys.argv[1]), sys.argv[2])' \
        "$1" "$images/$2"
}

# lines_of PAGE NAME: runs the Python block of a page that saves docs/images/NAME.
lines_of() {
    "$python" -c '
import re, sys
from pathlib import Path
blocks = re.findall(r"```python\n(.*?)```", Path(sys.argv[1]).read_text(encoding="utf-8"), flags=re.DOTALL)
exec(next(block for block in blocks if "docs/images/" + sys.argv[2] in block))' "$1" "$2"
}

# strip NAME OPTION...: the strip of Hopper's face as docs/images/transfer-NAME.jpg.
strip() {
    "$python" -m facegen transfer "$hopper" --input-age 77 --ages 5:85:10 --output face --hold none --outdir "$work/$1" \
        "${@:2}"
    to_jpeg "$work/$1/grace_hopper-face1-strip.png" "transfer-$1.jpg"
}

photos() {
    local portraits=${PORTRAITS:-}
    if [ -z "$portraits" ]; then
        "$python" -m pip download --quiet --no-deps --no-binary :all: --dest "$work" face_recognition==1.3.0
        tar -xzf "$work"/face_recognition-*.tar.gz -C "$work"
        portraits=$(echo "$work"/face_recognition-*/tests/test_images)
    fi
    "$python" scripts/strips.py "$images/photos.jpg" --ages 20,35,50,65,80 "$hopper:77" \
        facegen/app/examples/eileen_collins.jpg:36 "$portraits/obama.jpg:51" "$portraits/biden.jpg:70"
}

app() {
    PYTHONPATH=.:tests/app "$python" scripts/app_pictures.py
}

architecture() {
    "$python" scripts/architecture_picture.py
}

paste_back() {
    lines_of docs/paste_back.md paste_back.jpg
}

methods() {
    lines_of docs/editor.md methods.jpg
}

transfer() {
    strip shift
    strip refined --refine 150
    for layers in coarse middle fine; do strip "$layers" --layers "$layers"; done
}

latents() {
    "$python" scripts/latent_pictures.py
}

swap() {
    strip swap --encoder "$SWAP_ENCODER"
}

report() {
    PYTHONPATH=.:tests/app "$python" - "$REPORT" "$images/report.png" <<'PYTHON'
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright
from visiting import chromium

with sync_playwright() as driver:
    page = driver.chromium.launch(executable_path=chromium()).new_page()
    page.set_viewport_size({"width": 840, "height": 1571})
    page.goto(Path(sys.argv[1]).resolve().as_uri())
    page.screenshot(path=sys.argv[2])
Image.open(sys.argv[2]).convert("RGB").quantize(256).save(sys.argv[2], optimize=True)
PYTHON
}

dial() {
    "$python" - "$EVALUATION" "$images/dial.png" <<'PYTHON'
import base64
import io
import re
import sys
from pathlib import Path

from PIL import Image

page = Path(sys.argv[1]).read_text(encoding="utf-8")
(picture,) = re.findall(r'src="data:image/[a-z]+;base64,([^"]+)" alt="The dial', page)
Image.open(io.BytesIO(base64.b64decode(picture))).save(sys.argv[2], optimize=True)
PYTHON
}

fakes() {
    "$python" - "$images/fakes.png" <<'PYTHON'
import sys

import torch

from facegen import LatentSpace, image_grid

space = LatentSpace.open()
labels = [space.classes.of_age(age) for age in range(5, 100, 10)]
ws = torch.cat([space.from_seeds([seed], label) for seed in range(6) for label in labels])
groups = space.classes.groups.labels
image_grid(list(space.draw(ws)), len(groups), column_labels=groups, tile=64).save(sys.argv[1], optimize=True)
PYTHON
}

wanted=("$@")
if [ $# = 0 ]; then
    wanted=(photos app architecture paste_back methods transfer latents fakes)
    [ -z "${SWAP_ENCODER:-}" ] || wanted+=(swap)
    [ -z "${REPORT:-}" ] || wanted+=(report)
    [ -z "${EVALUATION:-}" ] || wanted+=(dial)
fi
for name in "${wanted[@]}"; do
    echo "== $name"
    "$name"
done
