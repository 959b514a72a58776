"""One visitor's photo: what is blended between drawn ages, what is saved, what is deleted."""

from __future__ import annotations

import gc
import math
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import HOPPER
from PIL import ExifTags, Image

from facegen.aging.edit import Edit
from facegen.aging.results import AgedFace
from facegen.aging.transfer import AgeTransfer
from facegen.app.session import AGES, EDITOR_AGES, PhotoSession, Settings, Stopped, at_age
from facegen.errors import FacegenError


@pytest.fixture(scope="module")
def transfer() -> AgeTransfer:
    return AgeTransfer.from_files(device="cpu")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Larger than the page shows it, and with notes."""
    path, exif = tmp_path_factory.mktemp("photos") / "me.jpg", Image.Exif()
    exif[ExifTags.Base.Artist] = "me"
    with Image.open(HOPPER) as image:
        image.resize((1280, 1500)).save(path, exif=exif)
    return path


@pytest.fixture(scope="module")
def session(transfer: AgeTransfer, photo: Path) -> PhotoSession:
    return PhotoSession(transfer, photo)


def faces() -> list[AgedFace]:
    """Gray at 20, white at 40, with changes of 0 and 1."""
    one = AgedFace(
        "age 20", 20, 1, Image.new("RGB", (8, 8), (100, 100, 100)), 1.0, 22.0, np.zeros((4, 4, 3), np.float16)
    )
    two = AgedFace(
        "age 40", 40, 3, Image.new("RGB", (8, 8), (200, 200, 200)), 2.0, 38.0, np.ones((4, 4, 3), np.float16)
    )
    return [one, two]


def test_between_two_ages_a_face_is_blended():
    blended = at_age(faces(), 25)
    assert (blended.caption, blended.age) == ("age 25", 25)
    assert blended.image.getpixel((0, 0)) == (125, 125, 125)
    assert (blended.strength, blended.looks) == (1.25, 26.0)
    assert np.allclose(blended.change, 0.25)


@pytest.mark.parametrize(("age", "level"), [(20, 100), (40, 200), (3, 100), (90, 200)])
def test_drawn_ages_are_as_drawn_and_nothing_is_beyond_them(age, level):
    assert at_age(faces(), age).image.getpixel((0, 0)) == (level,) * 3


def test_a_photo_at_a_drawn_age_is_what_transfer_makes(session: PhotoSession, transfer: AgeTransfer, photo: Path):
    assert 55 in AGES
    with Image.open(session.save_photo(55, Settings())) as saved, Image.open(photo) as image:
        assert saved.size == image.size
        assert saved.getexif()[ExifTags.Base.Artist] == "me"
        assert b"/compositeWithTrainedAlgorithmicMedia" in saved.info["xmp"]
        (expected,) = transfer.transfer(image, ages=[55]).photos
        saved = saved.convert("RGB")
        difference = np.abs(np.asarray(saved, np.int16) - np.asarray(expected.convert("RGB"), np.int16))
        change = np.abs(np.asarray(expected.convert("RGB"), np.int16) - np.asarray(image.convert("RGB"), np.int16))
        assert difference.mean() < 1  # of JPEG
        assert change.mean() > 1.5 * difference.mean()


def test_the_page_shows_what_is_saved(session: PhotoSession):
    shown, before = session.preview(30, Settings()), session.before
    assert shown.size == before.size
    assert max(shown.size) <= 1024
    assert np.abs(np.asarray(shown, np.int16) - np.asarray(before, np.int16)).max() > 20
    nobody = session.preview(30, Settings(chosen=()))
    assert nobody.tobytes() == before.tobytes()


def test_how_old_a_face_looks_is_told_of_the_found_strength_alone(session: PhotoSession):
    drawn = session._drawn.results[0].aged[AGES.index(55)]
    assert session.looks(55, Settings()) == [drawn.looks]
    (looks,) = session.looks(55, Settings(Edit(strength=0.5)))
    assert math.isnan(looks)
    (result,) = session._at([55], Settings(Edit(strength=0.5)))  # what strips and photos are made of
    assert result.aged[0].strength == 0.5
    assert math.isnan(result.aged[0].looks)


def test_only_what_changes_faces_draws_them_anew(session: PhotoSession):
    assert session.is_drawn(Settings(Edit(strength=2.0)))
    assert session.is_drawn(Settings(chosen=(0,)))
    assert not session.is_drawn(Settings(Edit(method="editor")))
    assert not session.is_drawn(Settings(input_ages=(40.0,)))


def test_who_stops_keeps_the_faces(transfer: AgeTransfer, photo: Path):
    session = PhotoSession(transfer, photo)
    before = session.preview(30, Settings()).tobytes()

    def stop(done: int, total: int) -> None:
        assert (done, total) == (1, 40)
        session.stop()

    with pytest.raises(Stopped):
        session.draw(Settings(Edit(refine=40)), lambda done, total: stop(done, total))
    assert session.is_drawn(Settings())
    assert session.preview(30, Settings()).tobytes() == before
    session.draw(Settings(Edit(method="editor")))
    assert session.preview(30, Settings(Edit(method="editor"))).tobytes() != before
    assert len(EDITOR_AGES) == len(session._drawn.results[0].aged)


def test_a_turn_is_waited_for_and_stopped(session: PhotoSession):
    lock = threading.Lock()
    with session.turn(lock):
        assert lock.locked()
    assert not lock.locked()
    with lock:
        threading.Timer(0.2, session.stop).start()
        with pytest.raises(Stopped), session.turn(lock):
            pass


def test_files_are_deleted(transfer: AgeTransfer, photo: Path):
    session = PhotoSession(transfer, photo)
    path = session.save_photo(30, Settings())
    assert path.exists()
    again = session.save_photo(35, Settings())
    assert again.exists()
    assert not path.exists()
    session.close()
    assert not again.exists()
    other = PhotoSession(transfer, photo)
    path = other.save_photo(30, Settings())
    del other
    gc.collect()
    assert not path.exists()  # also where nobody closes it


def test_no_face(transfer: AgeTransfer, tmp_path: Path):
    Image.new("RGB", (200, 200), "teal").save(tmp_path / "nobody.png")
    with pytest.raises(FacegenError, match="No face found"):
        PhotoSession(transfer, tmp_path / "nobody.png")


def test_settings_that_draw():
    settings = Settings(Edit(strength=2.0), (40.0,), (0,))
    assert settings.drawing == Settings(Edit(), (40.0,))
    assert replace(settings, chosen=None).drawing == settings.drawing
