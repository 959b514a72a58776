"""Before and after: pictures that the page holds."""

from __future__ import annotations

import base64
import io

import pytest

pytest.importorskip("gradio", reason="the page needs gradio")

from PIL import Image

from facegen.app.compare import compared, in_page
from facegen.photos.mark import Mark


def test_a_picture_in_the_page_says_what_was_done():
    photo = Image.new("RGBA", (30, 20), (200, 0, 0, 255))
    photo.info["icc_profile"] = b"a profile of colors"
    kind, data = in_page(photo, Mark(("age 30",))).split(",")
    assert kind == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as picture:
        assert picture.size == (30, 20)
        assert picture.info["icc_profile"] == b"a profile of colors"
        assert b"compositeWithTrainedAlgorithmicMedia" in picture.info["xmp"]


def test_a_photo_as_it_is_has_no_mark():
    with Image.open(io.BytesIO(base64.b64decode(in_page(Image.new("LA", (9, 9))).split(",")[1]))) as picture:
        assert picture.mode == "L"
        assert "xmp" not in picture.info


def test_what_the_page_gets():
    value = compared("data:1", "data:2", "The photo at age 30")
    assert (value["before"], value["after"]) == ("data:1", "data:2")
    assert value["before_alt"] == "The photo as it is"
    assert value["after_alt"] == "The photo at age 30"
