"""Before and after over one another."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from facegen import FacegenError, before_after


def test_both_pictures_are_inside_and_nothing_is_loaded():
    photo, aged = Image.new("RGB", (600, 400), "red"), Image.new("RGB", (600, 400), "blue")
    html = before_after(photo, aged, side=300)._repr_html_()
    pictures = [Image.open(io.BytesIO(base64.b64decode(data))) for data in re.findall(r"base64,([\w+/=]+)", html)]
    assert [picture.size for picture in pictures] == [(300, 200)] * 2
    # The photo lies on top and is cut at the slider, so that it is what is seen on the left.
    after, before = (np.asarray(picture.convert("RGB")).reshape(-1, 3).mean(axis=0) for picture in pictures)
    assert before[0] > 200 > 50 > before[2]
    assert after[2] > 200 > 50 > after[0]
    assert not re.search(r"https?://|<script|<link", html)
    assert html.index('alt="after"') < html.index('alt="before"') < html.index("clip-path") < html.index("oninput")


def test_sizes_that_differ():
    with pytest.raises(FacegenError, match="one size"):
        before_after(Image.new("RGB", (4, 4)), Image.new("RGB", (4, 5)))
