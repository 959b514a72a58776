from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from refusals import assert_refused

from facegen.faces.align import align_face
from facegen.faces.find import find_faces, find_faces_batch, yaw
from facegen.faces.template import UTKFACE_TEMPLATE, Face
from facegen.images import open_photo

TEMPLATE_POINTS = np.array(UTKFACE_TEMPLATE.points)


# -- opening photos


def test_open_photo_applies_exif_rotation(tmp_path: Path):
    image = Image.new("RGB", (40, 20), "red")
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    image.save(tmp_path / "turned.jpg", exif=exif)
    assert open_photo(tmp_path / "turned.jpg").size == (20, 40)


def test_open_photo_lays_transparency_over_white(tmp_path: Path):
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(tmp_path / "alpha.png")
    opened = open_photo(tmp_path / "alpha.png")
    assert opened.mode == "RGB"
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((5, 5)) == (255, 0, 0)


def test_open_photo_reads_a_palette_with_a_transparent_color(tmp_path: Path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putpixel((3, 3), 1)
    image.save(tmp_path / "palette.png", transparency=0)
    opened = open_photo(tmp_path / "palette.png")
    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((3, 3)) == (200, 100, 50)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif"])
def test_open_photo_scales_16_bits_to_8(tmp_path: Path, name: str):
    ramp = np.linspace(0, 65535, 256).astype(np.uint16)
    Image.fromarray(np.tile(ramp, (4, 1))).save(tmp_path / name)
    opened = np.asarray(open_photo(tmp_path / name))
    assert opened.shape == (4, 256, 3)
    np.testing.assert_array_equal(opened[0, :, 0], np.arange(256))


def test_open_photo_reads_float_tiff(tmp_path: Path):
    Image.fromarray(np.full((4, 4), 0.5, dtype=np.float32)).save(tmp_path / "float.tif")
    assert open_photo(tmp_path / "float.tif").getpixel((0, 0)) == (128, 128, 128)


def test_open_photo_errors_are_one_line_that_names_the_file(tmp_path: Path, hopper: Image.Image):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not a picture")
    hopper.save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    hopper.save(tmp_path / "whole.png")
    damaged = bytearray((tmp_path / "whole.png").read_bytes())
    damaged[2000:2400] = bytes(400)
    (tmp_path / "damaged.png").write_bytes(damaged)
    (tmp_path / "folder.jpg").mkdir()
    reasons = {"empty": "empty", "text": "not a picture", "cut": "truncated", "folder": "not a file"}
    for name, reason in reasons.items():
        assert f"{name}.jpg" in assert_refused(reason, open_photo, tmp_path / f"{name}.jpg")
    assert "damaged.png" in assert_refused("damaged", open_photo, tmp_path / "damaged.png")
    assert_refused("missing.jpg: no such", open_photo, tmp_path / "missing.jpg", error=FileNotFoundError)


def test_open_photo_refuses_a_decompression_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.new("RGB", (64, 64)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert_refused("bomb.png", open_photo, tmp_path / "bomb.png")


# -- finding faces


def test_find_faces_finds_grace_hopper(hopper_face: Face):
    left, top, right, bottom = hopper_face.box
    assert 150 < left < 200
    assert 90 < top < 140
    assert 330 < right < 380
    assert 310 < bottom < 370
    assert hopper_face.probability > 0.99
    eye_left, eye_right, nose, mouth_left, mouth_right = hopper_face.landmarks
    assert eye_left[0] < nose[0] < eye_right[0]
    assert mouth_left[0] < mouth_right[0]
    assert eye_left[1] < nose[1] < mouth_left[1]


def test_find_faces_gives_pixels_of_the_photo_whatever_its_size(hopper: Image.Image, hopper_face: Face):
    large = hopper.resize((hopper.width * 5, hopper.height * 5), Image.Resampling.BICUBIC)
    found = find_faces(large)[0].landmarks / 5
    # MTCNN's own noise between sizes is some pixels of a face 180 pixels wide.
    np.testing.assert_allclose(found, hopper_face.landmarks, atol=6)


def test_find_faces_sorts_by_size_and_keeps_all(hopper: Image.Image):
    group = Image.new("RGB", (900, 620), "gray")
    group.paste(hopper.resize((256, 300)), (10, 100))
    group.paste(hopper, (350, 10))
    faces = find_faces(group)
    assert len(faces) == 2
    assert faces[0].box[0] > 350 > faces[1].box[2]


def test_a_small_face_in_a_huge_photo_is_found(hopper: Image.Image):
    small = hopper.resize((368, 432))  # a face of 130 pixels
    panorama = Image.new("RGB", (10_000, 500), "gray")
    panorama.paste(small, (9_300, 40))
    (there,), (expected,) = find_faces(panorama), find_faces(small)
    np.testing.assert_allclose(there.landmarks - [9_300, 40], expected.landmarks, atol=8)  # a pixel of the search


def test_faces_at_every_tilt_are_found_in_one_photo(hopper: Image.Image):
    tilts = (-40, -20, 20, 40)
    photo = Image.new("RGB", (1200, 320), "gray")
    for place, tilt in enumerate(tilts):
        photo.paste(hopper.rotate(tilt, Image.Resampling.BICUBIC).resize((256, 300)), (place * 300 + 20, 10))
    eyes = [face.landmarks[1] - face.landmarks[0] for face in sorted(find_faces(photo), key=lambda face: face.box[0])]
    np.testing.assert_allclose([-np.degrees(np.arctan2(y, x)) for x, y in eyes], tilts, atol=8)


def test_find_faces_in_a_tight_crop(hopper: Image.Image, hopper_face: Face):
    tight = align_face(hopper, hopper_face, UTKFACE_TEMPLATE, 128)
    found = find_faces(tight)[0].landmarks / 128
    # Within a tenth of the face: without the padded search the eyes come out at half that height.
    np.testing.assert_allclose(found, TEMPLATE_POINTS, atol=0.08)


@pytest.mark.parametrize("size", [(1, 1), (5, 5), (30, 400), (3000, 2), (200, 300)])
def test_find_faces_gives_an_empty_list_where_there_is_none(size: tuple[int, int]):
    assert find_faces(Image.new("RGB", size, "green")) == []


def test_find_faces_ignores_a_drawn_pattern():
    image = Image.new("RGB", (300, 300), "white")
    draw = ImageDraw.Draw(image)
    for step in range(0, 300, 10):
        draw.line((0, step, 300, 300 - step), fill="black")
    assert find_faces(image) == []


# -- many pictures at once


def assert_same_faces(found: list[list[Face]], expected: list[list[Face]]) -> None:
    assert [len(faces) for faces in found] == [len(faces) for faces in expected]
    for some, others in zip(found, expected, strict=True):
        for one, other in zip(some, others, strict=True):
            # A batch adds up in another order: rounding errors of a few millionths, in pixels of pictures of 1000.
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=1e-3)
            np.testing.assert_allclose(one.box, other.box, atol=1e-3)
            assert one.probability == pytest.approx(other.probability, abs=1e-4)


@pytest.fixture(scope="module")
def assorted(hopper: Image.Image, hopper_face: Face) -> list[Image.Image]:
    """Faces in pictures of many sizes, a tight crop, two faces, gray, and none."""
    group = Image.new("RGB", (500, 300), "gray")
    group.paste(hopper.resize((240, 281)), (5, 10))
    group.paste(hopper.resize((180, 211)), (300, 50))
    return [
        hopper,
        group,
        hopper.resize((303, 355)),
        hopper.resize((300, 351)),
        hopper.resize((317, 371)).rotate(10),
        align_face(hopper, hopper_face, size=100),
        hopper.convert("L").resize((201, 233)),
        Image.new("RGB", (310, 340), "green"),
        Image.new("RGB", (3, 500)),
        hopper.resize((700, 820)),
    ]


def test_find_faces_batch_finds_what_find_faces_does(assorted: list[Image.Image]):
    found = find_faces_batch(assorted, max_side=300)
    assert [len(faces) for faces in found] == [1, 2, 1, 1, 1, 1, 1, 0, 0, 1]
    assert_same_faces(found, [find_faces(image, max_side=300) for image in assorted])


def test_find_faces_batch_does_not_depend_on_the_company(assorted: list[Image.Image]):
    few = assorted[2:6]
    found = find_faces_batch(few)
    assert_same_faces(find_faces_batch(few[::-1]), found[::-1])
    assert_same_faces(find_faces_batch(few[1:3] * 3), found[1:3] * 3)
    assert find_faces_batch([]) == []


def test_find_faces_batch_is_bounded_in_memory(assorted: list[Image.Image], monkeypatch: pytest.MonkeyPatch):
    from facenet_pytorch import MTCNN

    sizes: list[int] = []
    detect = MTCNN.detect
    monkeypatch.setattr(
        MTCNN, "detect", lambda self, images, **options: sizes.append(len(images)) or detect(self, images, **options)
    )
    found = find_faces_batch([assorted[6]] * 20)
    assert max(sizes) <= 16
    assert sum(sizes) == 20
    assert_same_faces(found, [found[0]] * 20)


def test_find_faces_batch_from_threads_leaves_the_number_of_threads(assorted: list[Image.Image]):
    expected = find_faces_batch(assorted[2:5])
    results: list[list[list[Face]]] = []
    seen: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        threads = [threading.Thread(target=lambda: results.append(find_faces_batch(assorted[2:5]))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert torch.get_num_threads() == 3
        new = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        new.start()
        new.join()
        assert seen == [3]
    finally:
        torch.set_num_threads(before)
    for found in results:
        assert_same_faces(found, expected)
    assert len(results) == 3


def test_threads_of_a_pool_compute_on_one_core():
    from facegen.faces.mtcnn import single_threaded

    seen: list[int] = []

    def work() -> None:
        with single_threaded():
            seen.append(torch.get_num_threads())

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        with single_threaded():  # the main thread has the cores to itself
            seen.append(torch.get_num_threads())
    finally:
        torch.set_num_threads(before)
    assert seen == [1, 2]


# -- how far a face is turned

# Millimeters, x to the right of the picture, y down, z toward the camera: eyes, nose tip, mouth corners of an adult.
HEAD = np.array([[-31.5, 0, 0], [31.5, 0, 0], [0, 38, 31.5], [-25, 68, 12], [25, 68, 12]])


def projected(turn: float, nod: float = 0.0, tilt: float = 0.0, scale: float = 2.0) -> np.ndarray:
    """The head's landmarks [5, 2] as a far camera sees them: turned, then nodded, then tilted, by degrees."""
    t, n, r = np.radians([turn, nod, tilt])
    about_y = np.array([[np.cos(t), 0, np.sin(t)], [0, 1, 0], [-np.sin(t), 0, np.cos(t)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(n), -np.sin(n)], [0, np.sin(n), np.cos(n)]])
    about_z = np.array([[np.cos(r), -np.sin(r), 0], [np.sin(r), np.cos(r), 0], [0, 0, 1]])
    return (HEAD @ (about_z @ about_x @ about_y).T)[:, :2] * scale + [300, 200]


@pytest.mark.parametrize("turn", [-80, -45, -20, 0, 5, 30, 60])
@pytest.mark.parametrize("tilt", [-40, 0, 90])
def test_yaw_of_a_head_that_is_turned_and_tilted(turn: float, tilt: float):
    assert yaw(projected(turn, tilt=tilt)) == pytest.approx(turn, abs=1e-6)


@pytest.mark.parametrize("turn", [-30, 0, 30])
@pytest.mark.parametrize("nod", [-15, 15])
def test_yaw_changes_little_with_nodding(turn: float, nod: float):
    # Seen from above or below, the line of the eyes leans, and the nose moves along it a little.
    assert yaw(projected(turn, nod=nod)) == pytest.approx(turn, abs=12)


def test_yaw_is_positive_to_the_right_and_mirrors(hopper: Image.Image, hopper_face: Face):
    turned = projected(25)
    assert turned[2, 0] > turned[:2, 0].mean()
    mirrored = find_faces(hopper.transpose(Image.Transpose.FLIP_LEFT_RIGHT))[0]
    assert yaw(mirrored) == pytest.approx(-yaw(hopper_face), abs=6)
    assert abs(yaw(hopper_face)) < 20


def test_yaw_of_impossible_faces():
    one_eye = projected(0)
    one_eye[0] = one_eye[1]
    assert yaw(one_eye) == 90
    assert_refused("landmarks", yaw, np.zeros((4, 2)))


# -- photos that lie on their side or upside down


@pytest.mark.parametrize("turn", [Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270])
def test_a_face_is_found_in_any_turn(hopper: Image.Image, turn: Image.Transpose):
    (upright,), (turned,) = find_faces(hopper), find_faces(hopper.transpose(turn))
    faces = (
        align_face(hopper, upright, UTKFACE_TEMPLATE, 64),
        align_face(hopper.transpose(turn), turned, UTKFACE_TEMPLATE, 64),
    )
    # The same search, so the same pixels but for the resampling of a turned picture.
    assert np.abs(np.asarray(faces[0], int) - np.asarray(faces[1], int)).mean() < 3
    left, top, right, bottom = turned.box
    assert left < turned.landmarks[:, 0].min() < turned.landmarks[:, 0].max() < right
    assert top < turned.landmarks[:, 1].min() < turned.landmarks[:, 1].max() < bottom


def test_turned_pictures_in_a_batch_of_upright_ones(hopper: Image.Image, face: Image.Image):
    upside_down = hopper.transpose(Image.Transpose.ROTATE_180)
    nothing = Image.new("RGB", (90, 70), "blue")
    found = find_faces_batch([hopper, upside_down, nothing, face, face.transpose(Image.Transpose.ROTATE_90)])
    assert [len(faces) for faces in found] == [1, 1, 0, 1, 1]
    first, second = found[0][0].landmarks, found[1][0].landmarks
    np.testing.assert_allclose(np.array(hopper.size) - second, first, atol=2)  # MTCNN counts in whole pixels
