"""The tab *Change age* in a real browser, as a visitor uses it."""

from __future__ import annotations

import io
import signal
import urllib.request
from pathlib import Path

import pytest
from helpers import HOPPER
from PIL import ExifTags, Image
from visiting import Visitor, serving


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo of two: one of them is in a mirror, and farther away."""
    with Image.open(HOPPER) as one:
        both = Image.new("RGB", (900, 600), "gray")
        both.paste(one)
        both.paste(one.transpose(Image.Transpose.FLIP_LEFT_RIGHT).resize((384, 450)), (514, 150))
    path = tmp_path_factory.mktemp("photos") / "two of us.png"
    both.save(path)
    return path


def fetch(visitor, name: str) -> bytes:
    """The download of this name, as the browser saves it."""
    link = visitor.at(f"#files a[download='{name}']")
    with visitor.page.expect_download() as download:
        link.click()
    return Path(download.value.path()).read_bytes()


def test_a_photo_is_outlined_and_the_slider_moves_its_age(visit):
    visitor = visit()
    visitor.upload(HOPPER)
    said = visitor.at("#faces img").get_attribute("alt")
    age = visitor.page.get_by_label("Age of face 1").input_value()
    assert said.endswith(f": 1: looks {age}")
    assert 55 < int(age) < 95
    assert visitor.slider.input_value() == "25"
    assert visitor.at("#compare .after").get_attribute("alt") == "The photo at age 25"
    for key in ("ArrowRight", "ArrowRight", "End"):
        with visitor.changing():
            visitor.slider.press(key)
    assert visitor.slider.input_value() == "95"
    box = visitor.slider.bounding_box()
    mouse, middle = visitor.page.mouse, box["y"] + box["height"] / 2
    with visitor.changing():
        mouse.move(box["x"] + box["width"] - 4, middle)
        mouse.down()
        mouse.move(box["x"] + box["width"] / 2, middle, steps=8)
    mouse.up()
    visitor.wait(lambda: visitor.at("#compare .after").get_attribute("alt") == "The photo at age 50")


def test_a_number_is_typed_and_what_is_beyond_the_slider_is_bounded(visit):
    visitor = visit()
    visitor.upload(HOPPER)
    number = visitor.at("#age input[type=number]")
    for typed, shown in (("63", "63"), ("500", "95"), ("3", "5"), ("", "5")):
        number.fill("")
        number.press_sequentially(typed)
        number.press("Tab")
        visitor.wait(lambda age=shown: visitor.slider.input_value() == age, f"age {shown}")
        assert number.input_value() == shown
        alt = f"The photo at age {shown}"
        visitor.wait(lambda alt=alt: visitor.at("#compare .after").get_attribute("alt") == alt, alt)
    assert "Error" not in visitor.at("body").inner_text()


def test_the_border_follows_the_pointer_and_the_keys(visit):
    visitor = visit()
    visitor.upload(HOPPER)
    box = visitor.at("#compare .compare").bounding_box()
    photo = visitor.at("#compare .before").evaluate("p => p.naturalWidth / p.naturalHeight") * box["height"]
    left = box["x"] + (box["width"] - photo) / 2
    border = visitor.at("#compare .border")

    def x() -> float:
        place = border.bounding_box()
        return place["x"] + place["width"] / 2

    mouse, y = visitor.page.mouse, box["y"] + box["height"] / 3
    assert abs(x() - left - photo / 2) < 3
    mouse.move(x(), y)
    mouse.down()
    for share in (0.25, 0.9):
        mouse.move(left + share * photo, y, steps=4)
        visitor.wait(lambda share=share: abs(x() - left - share * photo) < 6, f"border at {share}")
    mouse.up()
    before, keyed = x(), visitor.page.get_by_label("Border between the photo before and after")
    keyed.press("ArrowLeft")
    assert abs(before - x() - photo / 100) < 2
    assert keyed.get_attribute("aria-valuetext") == "89 percent before"
    keyed.press("Home")
    assert abs(x() - left) < 2


def test_settings_change_the_photo(visit, two: Path):
    visitor = visit()
    visitor.upload(HOPPER)
    assert not visitor.at("#strength").is_visible()
    visitor.open_settings()
    with visitor.changing():
        visitor.page.get_by_role("radio", name="editor").check()
    visitor.upload(two)  # the settings stay
    edited = visitor.after
    with visitor.changing():
        visitor.page.get_by_role("radio", name="generator").check()
    with visitor.changing():
        visitor.page.get_by_role("radio", name="editor").check()
    assert visitor.after == edited
    visitor.at("#refine").click()
    visitor.wait_for("Only the generator is refined")
    visitor.upload(HOPPER)
    with visitor.changing():
        visitor.page.get_by_role("radio", name="generator").check()
    visitor.at("#auto input").uncheck()
    strength = visitor.at("#strength input[type=range]")
    with visitor.changing():
        strength.press("End")
    with visitor.changing():
        visitor.page.get_by_label("Women and men stay what they are").uncheck()
    with visitor.changing():
        visitor.page.get_by_role("radio", name="editor").check()
    with visitor.changing():
        visitor.at("#auto input").check()
    assert not visitor.at("#strength").is_visible()
    age = visitor.page.get_by_label("Age of face 1")
    with visitor.changing():
        age.fill("40")
    visitor.wait(lambda: visitor.at("#faces img").get_attribute("alt").endswith(": 1: age 40"))
    age.fill("400")
    age.press("Tab")
    visitor.wait(lambda: visitor.at("#faces img").get_attribute("alt").endswith(": 1: age 100"))


def test_faces_are_chosen_and_downloads_are_whole(visit, two: Path):
    visitor = visit()
    visitor.upload(two)
    assert visitor.at("#faces img").get_attribute("alt").count("looks") == 2
    assert visitor.message.startswith("Faces look ")
    with visitor.changing():
        visitor.page.get_by_role("checkbox", name="Face 2").uncheck()
    visitor.wait_for("The face looks ")
    visitor.at("#save").click()
    visitor.wait_for("1 file below")
    with Image.open(io.BytesIO(fetch(visitor, "two of us-age25.png"))) as aged, Image.open(two) as photo:
        assert aged.size == photo.size
        assert aged.crop((520, 0, 900, 600)).tobytes() == photo.crop((520, 0, 900, 600)).tobytes()
        assert aged.crop((0, 0, 514, 600)).tobytes() != photo.crop((0, 0, 514, 600)).tobytes()
        assert "face shown at age 25" in aged.info["Comment"]
    with visitor.changing():
        visitor.page.get_by_role("checkbox", name="Face 1").uncheck()
    visitor.at("#save").click()
    visitor.wait_for("No face is chosen")
    with visitor.changing():
        visitor.page.get_by_role("checkbox", name="Face 2").check()
    visitor.page.get_by_role("checkbox", name="Face 1").check()
    visitor.wait_for("Faces look ")
    visitor.at("#strip").click()
    visitor.wait_for("2 files below")
    with Image.open(io.BytesIO(fetch(visitor, "two of us-face2-strip.png"))) as strip:
        assert strip.width > 5 * strip.height
        assert "face shown at age 5, age 15" in strip.info["Comment"]


def test_the_photo_is_saved_with_what_its_file_says_and_a_mark(visit, tmp_path: Path):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 3
    exif[ExifTags.Base.Artist] = "me"
    with Image.open(HOPPER) as photo:
        photo.rotate(180).resize((1536, 1800)).save(tmp_path / "me.jpg", exif=exif)
    visitor = visit()
    visitor.upload(tmp_path / "me.jpg")
    shown = visitor.at("#compare .after").evaluate("p => [p.naturalWidth, p.naturalHeight]")
    assert max(shown) == 1024
    visitor.at("#save").click()
    visitor.wait_for("1 file below")
    with Image.open(io.BytesIO(fetch(visitor, "me-age25.jpg"))) as aged:
        assert aged.size == (1536, 1800)
        assert aged.getexif()[ExifTags.Base.Artist] == "me"
        assert aged.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert b"/compositeWithTrainedAlgorithmicMedia" in aged.info["xmp"]
    with urllib.request.urlopen(visitor.after) as picture:  # what somebody saves from the page
        assert b"/compositeWithTrainedAlgorithmicMedia" in picture.read()
    visitor.at("#video").click()
    visitor.at("#files a[download^='me-ages.']").wait_for()
    name = visitor.at("#files a[download]").get_attribute("download")
    assert name in {"me-ages.mp4", "me-ages.gif"}
    assert b"TrainedAlgorithmicMedia" in fetch(visitor, name)


def test_refinement_is_cancelled_and_done(visit):
    visitor = visit()
    visitor.upload(HOPPER)
    visitor.open_settings()
    before = visitor.after
    visitor.at("#refine").click()
    visitor.wait_for(r"step \d+ of 80")
    assert visitor.at("#refine").is_disabled()
    visitor.at("#cancel").click()
    visitor.wait_for("stopped; the faces are as before")
    visitor.at("#cancel").wait_for(state="hidden")
    assert visitor.after == before
    with visitor.changing():
        visitor.at("#refine").click()
    visitor.wait_for("The face looks ")
    refined = visitor.after
    with visitor.changing():
        visitor.slider.press("ArrowRight")
    with visitor.changing():
        visitor.slider.press("ArrowLeft")
    visitor.wait(lambda: visitor.after == refined, "the refined face")


def test_two_visitors_have_their_own_photos(visit, two: Path):
    one, other = visit(), visit()
    one.upload(HOPPER)
    other.upload(two)
    one.open_settings()
    one.at("#refine").click()
    one.wait_for(r"step \d+ of 80")
    with other.changing():
        other.slider.press("Home")
    other.wait_for("Faces look ")
    assert other.at("#compare .after").evaluate("p => p.naturalWidth / p.naturalHeight") == pytest.approx(1.5, abs=0.01)
    one.wait_for("The face looks ")
    assert one.slider.input_value() == "25"
    assert one.at("#compare .after").evaluate("p => p.naturalWidth") == 512


def test_another_photo_replaces_the_first_and_its_files(visit, server, two: Path):
    visitor = visit()
    visitor.upload(HOPPER)
    visitor.at("#save").click()
    visitor.wait_for("1 file below")
    written = {path.parents[1] for path in server.files() if path.parent.name == "made"}
    visitor.upload(two)
    visitor.wait(lambda: any(not folder.exists() for folder in written), "deletion")
    visitor.at("#files").wait_for(state="hidden")  # gradio shows one component after the other
    visitor.page.get_by_label("Remove Image").click()
    visitor.at("#compare .hint").wait_for()
    visitor.at("#save").click()
    visitor.wait_for("Drop a photo first")


def test_an_example_is_taken(visit):
    visitor = visit()
    visitor.page.get_by_role("button", name="Grace Hopper").click()
    visitor.wait(lambda: visitor.after != "")
    visitor.wait_for("The face looks ")


def test_after_the_time_everything_of_a_visitor_is_gone_and_examples_stay(browser):
    with serving(KEPT=4) as server:
        visitor = Visitor(browser, server.address)
        visitor.upload(HOPPER)
        visitor.at("#save").click()
        visitor.wait_for("1 file below")
        mine = [path for path in server.files() if path.parent.name == "made" or path.name == HOPPER.name]
        assert len(mine) > 2
        visitor.wait(lambda: not list(server.folder.rglob("facegen-photo-*")), "deletion of the session")
        visitor.wait(lambda: not any(path.exists() and path.parent.name == "made" for path in mine), "deletion")
        visitor.slider.press("ArrowRight")
        visitor.wait_for("Drop a photo first")
        visitor.page.wait_for_timeout(5000)
        visitor.page.reload()
        for name in ("Grace Hopper", "Eileen Collins"):
            icon = visitor.page.get_by_role("button", name=name).locator("img")
            visitor.wait(lambda icon=icon: icon.evaluate("i => i.complete && i.naturalWidth > 0"), f"the icon {name}")
        visitor.page.get_by_role("button", name="Grace Hopper").click()
        visitor.wait_for("The face looks ")
        visitor.at("#save").click()
        visitor.wait_for("1 file below")
        visitor.context.close()


def test_the_end_comes_soon_while_a_visitor_refines(browser):
    with serving() as server:
        visitor = Visitor(browser, server.address)
        visitor.upload(HOPPER)
        visitor.open_settings()
        visitor.at("#refine").click()
        visitor.wait_for(r"step \d+ of 150")
        assert server.end(signal.SIGINT) == 0
        assert list(server.folder.glob("facegen-app-*")) == []
        visitor.context.close()
