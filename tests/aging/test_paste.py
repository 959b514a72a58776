from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from icc import RED_IS_GREEN
from PIL import Image, ImageCms, ImageFilter
from refusals import assert_refused

from facegen.aging.change import LIGHTER, LIGHTNESS, color_map
from facegen.aging.edit import Output
from facegen.aging.paste import PastedFace, _warp, paste_faces, paste_results
from facegen.aging.results import AgedFace, FaceResult
from facegen.batch.save import save_photos
from facegen.errors import FacegenError
from facegen.faces.align import align_face
from facegen.faces.mask import face_mask
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate, alignment_matrix
from facegen.images import to_rgb
from facegen.photos.original import Original, open_original

SIZE = 64
# Where MTCNN sees Grace Hopper's eyes, nose and mouth corners in matplotlib's 512x600 pixels.
LANDMARKS = np.array([(217.9, 210.3), (307.8, 206.4), (262.9, 262.8), (228.6, 304.1), (306.2, 300.4)])


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32)


def pasted(photo: Image.Image, landmarks: np.ndarray = LANDMARKS, aged=None, reconstruct=None) -> PastedFace:
    """A face cut from a photo; `reconstruct` and `aged` change the picture as the networks would."""
    source = align_face(photo, landmarks, UTKFACE_TEMPLATE, SIZE)
    copy = source if reconstruct is None else reconstruct(source)
    return PastedFace(
        source, copy, copy if aged is None else aged(copy), alignment_matrix(landmarks, UTKFACE_TEMPLATE, SIZE)
    )


def lighter(picture: Image.Image) -> Image.Image:
    return picture.point(lambda level: min(level + 40, 255))


def blurred(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(1))


def turned(image: Image.Image, degrees: float) -> tuple[Image.Image, np.ndarray]:
    """The photo turned about its middle, and where its landmarks are then."""
    angle = np.radians(degrees)
    rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    middle = np.array(image.size) / 2
    return image.rotate(degrees, Image.Resampling.BICUBIC), (LANDMARKS - middle) @ rotation.T + middle


def test_of_a_face_seen_from_the_side_what_lies_beyond_its_eyes_stays(hopper: Image.Image):
    narrow = AlignmentTemplate(((0.5, 0.29), (0.7, 0.29), (0.68, 0.53), (0.5, 0.69), (0.66, 0.69)))
    frontal = pasted(hopper, aged=lighter)
    wide, side = (
        pixels(align_face(paste_faces(hopper, [replace(frontal, template=template)]), LANDMARKS, size=64))
        - pixels(frontal.input)
        for template in (None, narrow)
    )
    assert wide[32, 12:52].min() > 2
    assert side[32, 32:42].min() > 2  # between the narrow eyes and the mouth
    assert np.abs(side[32, 12:20]).max() < 2


@pytest.mark.parametrize("mode", ["L", "LA", "RGB", "RGBA"])
def test_a_face_that_did_not_change_leaves_the_photo_as_it_is(hopper: Image.Image, mode: str):
    photo = hopper.convert(mode)
    result = paste_faces(photo, [pasted(hopper, reconstruct=blurred)], "change")
    assert (result.mode, result.size) == (photo.mode, photo.size)
    np.testing.assert_array_equal(pixels(result), pixels(photo))


def test_fine_lines_of_a_large_face_fade_toward_a_younger_age_and_edges_stay():
    photo = np.full((600, 512, 3), 150, np.int16)
    photo[::4] -= 12  # lines that the crop of 64 pixels does not show
    photo[280:286, 200:320] = 20  # the bridge of glasses, below the eyes
    face = pasted(Image.fromarray(photo.astype(np.uint8)))
    original = Image.fromarray(photo.astype(np.uint8))

    def contrast(years: float, rows: slice, columns: slice) -> float:
        younger = np.asarray(paste_faces(original, [replace(face, years=years)]), dtype=np.float32)
        return float(younger[rows, columns].std(axis=0).mean())

    cheek, collar = (slice(240, 272), slice(236, 290)), (slice(520, 552), slice(236, 290))
    assert contrast(-60, *cheek) < 0.6 * contrast(0, *cheek)
    assert contrast(-60, *cheek) < contrast(-10, *cheek) < contrast(0, *cheek) == contrast(30, *cheek)
    assert contrast(-60, *collar) == contrast(0, *collar)
    bridge = (slice(274, 292), slice(236, 290))
    assert contrast(-60, *bridge) > 0.8 * contrast(0, *bridge)


def test_the_photo_itself_is_not_touched(hopper: Image.Image):
    before = hopper.copy()
    paste_faces(hopper, [pasted(hopper, aged=lighter)], "face")
    np.testing.assert_array_equal(pixels(hopper), pixels(before))


def test_what_the_generator_cannot_draw_stays_in_mode_change(hopper: Image.Image):
    face = pasted(hopper, reconstruct=blurred, aged=lighter)
    fine = [
        pixels(image) - pixels(image.filter(ImageFilter.GaussianBlur(2)))
        for image in (hopper, paste_faces(hopper, [face], "change"), paste_faces(hopper, [face], "face"))
    ]
    inside = (slice(215, 300), slice(215, 310))
    detail = [float(part[inside].std()) for part in fine]
    assert detail[1] == pytest.approx(detail[0], rel=0.15)  # clipped highlights lose a little
    assert detail[2] < 0.7 * detail[0]


@pytest.mark.parametrize("mode", ["change", "face"])
def test_no_seam(hopper: Image.Image, mode: str):
    """Between neighbors in the photo, pasting adds no step: a mask with a border would add up to 40 levels."""
    photo = hopper.point(lambda level: 0.8 * level)  # so that 40 levels more fit in everywhere
    result = paste_faces(photo, [pasted(photo, aged=lighter)], mode)
    added = pixels(result) - pixels(photo)
    assert added.max() > 30
    if mode == "change":
        # The fade is BORDER = 0.12 of a crop of 219 pixels wide; a smooth step is at most 1.5 times as steep as a ramp.
        steepest = 40 * 1.5 / (0.12 * 219)
        assert max(np.abs(np.diff(added, axis=axis)).max() for axis in (0, 1)) <= steepest + 1  # 1: rounding
    # The outline, where the mask is just above nothing, shows nothing.
    x, y = np.meshgrid(np.arange(hopper.width) + 0.5, np.arange(hopper.height) + 0.5)
    matrix = alignment_matrix(LANDMARKS, UTKFACE_TEMPLATE, SIZE) / SIZE
    mask = face_mask(*(row[0] * x + row[1] * y + row[2] for row in matrix))
    assert (added[mask == 0] == 0).all()
    assert np.abs(added[mask < 0.01]).max() <= 2


@pytest.mark.parametrize(("degrees", "scale"), [(0, 1), (33, 0.12), (-40, 2), (170, 1)])
def test_a_face_lands_where_it_was(degrees: float, scale: float):
    """Dots on the landmarks of the aged face appear on the landmarks of the photo, to a fraction of a crop's pixel."""
    photo = Image.new("RGB", (round(512 * scale), round(600 * scale)), (90, 90, 90))
    landmarks = turned(Image.new("RGB", (512, 600)), degrees)[1] * scale
    face = pasted(photo, landmarks)
    places = landmarks @ face.matrix[:, :2].T + face.matrix[:, 2]
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    for place, target in zip(places[1:4:2], landmarks[1:4:2], strict=True):  # an eye and a corner of the mouth
        dot = 60 * np.exp(-((x - place[0]) ** 2 + (y - place[1]) ** 2) / (2 * 2.5**2))
        marked = Image.fromarray(np.repeat((90 + dot).round().astype(np.uint8)[..., None], 3, axis=2))
        face = PastedFace(face.reconstruction, face.reconstruction, marked, face.matrix)
        added = pixels(paste_faces(photo, [face], "face")).mean(axis=2) - 90
        added[added < 5] = 0
        rows, columns = np.mgrid[: photo.height, : photo.width] + 0.5
        found = np.array([(columns * added).sum(), (rows * added).sum()]) / added.sum()
        pixel = 1 / np.hypot(*face.matrix[0, :2])  # of the crop, in pixels of the photo
        assert np.hypot(*(found - target)) < 0.6 * pixel


def test_there_and_back_is_the_same_picture(hopper: Image.Image):
    """Warping the crop back undoes the alignment: what comes back is the photo, but for what 64 pixels cannot hold."""
    photo, landmarks = turned(hopper.filter(ImageFilter.GaussianBlur(5)), 25)
    face = pasted(photo, landmarks)
    box = (200, 190, 320, 310)
    back = _warp(pixels(face.input), face.matrix, box)
    assert np.abs(back - pixels(photo.crop(box))).mean() < 1.5


def test_work_in_bands_changes_nothing(hopper: Image.Image, monkeypatch: pytest.MonkeyPatch):
    photo, landmarks = turned(hopper, 30)
    face = pasted(photo, landmarks, aged=lighter)
    whole = paste_faces(photo, [face])
    monkeypatch.setattr("facegen.aging.paste.BAND", 17)
    # Floats of pixels are summed in another order: where a value lies at .5, it may round the other way.
    np.testing.assert_allclose(pixels(paste_faces(photo, [face])), pixels(whole), atol=1)


def test_colors_are_the_photos(hopper: Image.Image):
    """A reconstruction without the photo's light and contrast changes nothing, as the aged face lacks the same."""

    def dull(picture: Image.Image) -> Image.Image:
        return picture.point(lambda level: round(60 + 0.6 * level))

    right = pixels(paste_faces(hopper, [pasted(hopper)], "face"))
    for reconstruct in (dull, lambda picture: lighter(dull(picture))):
        result = pixels(paste_faces(hopper, [pasted(hopper, reconstruct=reconstruct)], "face"))
        assert np.abs(result - right).mean() < 1.5
    # The contrast of what changes is put right, too: 24 dull levels are 40 of the photo, as far as MAX_GAIN and LIGHTER
    # allow.
    face = pasted(hopper, reconstruct=dull, aged=lambda picture: picture.point(lambda level: level + 24))
    added = pixels(paste_faces(hopper, [face])) - pixels(hopper)
    assert np.median((added @ LIGHTNESS)[230:280, 240:290]) == pytest.approx(
        LIGHTER * np.tanh(24 * 1.2 / LIGHTER), abs=2.5
    )


def test_changes_of_aging_stay(hopper: Image.Image):
    def gray_haired(picture: Image.Image) -> Image.Image:
        levels = np.asarray(picture).copy()
        levels[:12] = 200
        return Image.fromarray(levels)

    result = paste_faces(hopper, [pasted(hopper, aged=gray_haired)], "face")
    forehead = pixels(result)[165:172, 250:280]
    assert forehead.mean() == pytest.approx(200, abs=12)


def test_colors_map_onto_one_another():
    rng = np.random.default_rng(0)
    have, want = (np.cov(rng.normal(size=(3, 500)) * np.array([[30], [20], [10]]) * gain) for gain in (1, 0.7))
    matrix = color_map(have, want)
    np.testing.assert_allclose(matrix @ have @ matrix.T, want, rtol=0.05, atol=5)
    sepia = np.array([0.85, 0.72, 0.5])
    change = np.array([10, -20, 5])
    shown = color_map(have, 900 * np.outer(sepia, sepia)) @ change
    # A sepia photo has but one line of colors. Of others a variance of 1/12 is left, of about 20 levels: 1.5 %.
    assert np.linalg.norm(np.cross(shown, sepia)) < 0.03 * np.linalg.norm(np.cross(change, sepia))


def test_gray_stays_gray(hopper: Image.Image):
    gray = hopper.convert("L")
    face = pasted(hopper, aged=lambda picture: Image.blend(picture, Image.new("RGB", picture.size, "red"), 0.5))
    for mode in ("change", "face"):
        one = paste_faces(gray, [face], mode)
        three = np.asarray(paste_faces(gray.convert("RGB"), [face], mode))
        assert one.mode == "L"
        np.testing.assert_array_equal(three, np.repeat(np.asarray(one)[..., None], 3, axis=2))
        assert np.abs(pixels(one) - pixels(gray)).max() > 20


def test_a_color_photo_may_be_gray_in_places(hopper: Image.Image):
    photo = hopper.convert("L").convert("RGB")
    photo.putpixel((0, 0), (255, 0, 0))
    face = pasted(photo, reconstruct=lambda picture: hopper.resize((SIZE, SIZE)), aged=lighter)
    assert np.ptp(pixels(paste_faces(photo, [face])), axis=2).max() == 255


def test_alpha_and_profile_stay(hopper: Image.Image):
    photo = hopper.convert("RGBA")
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    photo.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    result = paste_faces(photo, [pasted(hopper, aged=lighter)])
    np.testing.assert_array_equal(pixels(result.getchannel("A")), pixels(photo.getchannel("A")))
    assert result.info["icc_profile"] == photo.info["icc_profile"]
    plain = paste_faces(hopper, [pasted(hopper, aged=lighter)])
    np.testing.assert_array_equal(pixels(result.convert("RGB")), pixels(plain))
    gray = hopper.convert("L")
    gray.info["icc_profile"] = photo.info["icc_profile"]  # as left behind by a conversion
    assert "icc_profile" not in paste_faces(gray, []).info


def test_a_face_in_a_photo_of_another_color_profile(hopper: Image.Image):
    red, green, blue = hopper.split()
    photo = Image.merge("RGB", [green, red, blue])  # the same colors, in the profile's numbers
    photo.info["icc_profile"] = RED_IS_GREEN
    for mode in ("change", "face"):
        result = to_rgb(paste_faces(photo, [pasted(photo, aged=lighter)], mode))
        plain = paste_faces(hopper, [pasted(hopper, aged=lighter)], mode)
        # A level of rounding there and one back; exchanged channels are 20 levels apart.
        assert np.abs(pixels(result) - pixels(plain)).mean() < 1


def test_several_faces_in_any_order(hopper: Image.Image):
    photo = Image.new("RGB", (1000, 600), "gray")
    photo.paste(hopper, (0, 0))
    photo.paste(hopper.resize((256, 300)), (600, 200))
    small = LANDMARKS / 2 + [600, 200]
    faces = [pasted(photo, aged=lighter), pasted(photo, small, aged=lighter)]
    together = pixels(paste_faces(photo, faces))
    np.testing.assert_array_equal(together, pixels(paste_faces(photo, faces[::-1])))
    one_by_one = paste_faces(paste_faces(photo, faces[:1]), faces[1:])
    np.testing.assert_array_equal(together, pixels(one_by_one))  # they do not touch
    for landmarks in (LANDMARKS, small):
        x, y = landmarks[2].astype(int)
        assert together[y, x].mean() - pixels(photo)[y, x].mean() > 10


def test_overlapping_faces_are_not_added_up(hopper: Image.Image):
    """Two faces in one place, as two detections of one: as much as one. Side by side: no step between them."""
    one = pasted(hopper, aged=lighter)
    single = pixels(paste_faces(hopper, [one]))
    np.testing.assert_allclose(pixels(paste_faces(hopper, [one, one])), single, atol=1)
    photo = Image.new("RGB", hopper.size, (90, 90, 90))
    faces = [pasted(photo, LANDMARKS + np.array([shift, 0]), aged=lighter) for shift in (-60, 60)]
    added = pixels(paste_faces(photo, faces)) - 90
    assert added.max() <= 41
    assert np.abs(np.diff(added[250, :, 0])).max() < 4
    assert added[250, 262, 0] > 20  # in the middle of both


def test_a_face_partly_or_wholly_outside(hopper: Image.Image):
    left, top = 240, 200
    part = hopper.crop((left, top, 512, 600))
    face = pasted(hopper, aged=lighter)
    inside = PastedFace(
        face.input, face.reconstruction, face.aged, alignment_matrix(LANDMARKS - [left, top], UTKFACE_TEMPLATE, SIZE)
    )
    expected = paste_faces(hopper, [face]).crop((left, top, 512, 600))
    np.testing.assert_allclose(pixels(paste_faces(part, [inside])), pixels(expected), atol=1)
    for shift in ([5000, 0], [0, -5000]):
        away = PastedFace(
            face.input, face.reconstruction, face.aged, alignment_matrix(LANDMARKS + shift, UTKFACE_TEMPLATE, SIZE)
        )
        np.testing.assert_array_equal(pixels(paste_faces(hopper, [away])), pixels(hopper))


def test_no_faces_is_the_photo(hopper: Image.Image):
    np.testing.assert_array_equal(pixels(paste_faces(hopper, [])), pixels(hopper))


def test_the_mask_is_a_face():
    x, y = np.meshgrid(*[(np.arange(100) + 0.5) / 100] * 2)
    mask = face_mask(x, y)
    assert mask.min() == 0
    assert mask.max() == 1
    for point_x, point_y in UTKFACE_TEMPLATE.points:
        assert face_mask(np.array(point_x), np.array(point_y)) > 0.9
    assert max(mask[0].max(), mask[-1].max(), mask[:, 0].max(), mask[:, -1].max()) < 0.02
    assert max(mask[5, 5], mask[5, 94], mask[94, 5], mask[94, 94]) == 0


def broken(field: str, value: object, hopper: Image.Image) -> PastedFace:
    face = pasted(hopper)
    parts = {name: getattr(face, name) for name in ("input", "reconstruction", "aged", "matrix")}
    return PastedFace(**{**parts, field: value})


def test_wrong_arguments(hopper: Image.Image):
    good = pasted(hopper)
    assert_refused("'change' or 'face', not 'whole'", paste_faces, hopper, [good], "whole")
    for mode in ("P", "CMYK", "I"):
        with pytest.raises(FacegenError, match=f"mode {mode} cannot take faces.*open_original"):
            paste_faces(hopper.convert("L").convert(mode) if mode == "I" else hopper.convert(mode), [good])
    with pytest.raises(FacegenError, match="face 2: input, reconstruction and aged face have different sizes"):
        paste_faces(hopper, [good, broken("aged", hopper, hopper)])
    for matrix in (np.zeros((2, 3)), np.eye(3), np.full((2, 3), np.nan)):
        assert_refused("face 1: its matrix", paste_faces, hopper, [broken("matrix", matrix, hopper)])


def test_originals_are_opened_upright_with_what_they_have(hopper: Image.Image, tmp_path: Path):
    small = hopper.resize((51, 60))
    exif = small.getexif()
    exif[0x0112] = 6
    small.save(tmp_path / "turned.png", exif=exif)
    small.convert("L").save(tmp_path / "gray.png")
    small.convert("LA").save(tmp_path / "la.png")
    clear = small.convert("RGBA")
    clear.putalpha(100)
    clear.save(tmp_path / "rgba.png")
    clear.quantize().save(tmp_path / "p.png")
    small.convert("CMYK").save(tmp_path / "cmyk.jpg")
    Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257).save(tmp_path / "deep.png")
    modes = {path.stem: open_original(path).image.mode for path in tmp_path.iterdir()}
    assert modes == {"turned": "RGB", "gray": "L", "la": "LA", "rgba": "RGBA", "p": "RGBA", "cmyk": "RGB", "deep": "L"}
    assert open_original(tmp_path / "turned.png").image.size == (60, 51)
    assert open_original(tmp_path / "rgba.png").image.getpixel((5, 5))[3] == 100
    with pytest.raises(FileNotFoundError, match=r"none\.png: no such file"):
        open_original(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("hello")
    assert_refused("text.png: not a picture", open_original, tmp_path / "text.png")


def result_of(face: PastedFace, captions: tuple[str, ...]) -> FaceResult:
    aged = [AgedFace(caption, 50.0, 0, face.aged if i else face.reconstruction) for i, caption in enumerate(captions)]
    return FaceResult((0, 0, 1, 1), face.matrix, face.input, face.reconstruction, 50.0, 0, aged, np.zeros(8))


def test_results_are_pasted_age_by_age(hopper: Image.Image, tmp_path: Path):
    hopper = hopper.resize((128, 150))
    face = pasted(hopper, LANDMARKS / 4, aged=lighter)
    results = [result_of(face, ("age 5", "91-100"))]
    pictures = dict(paste_results(hopper, results))
    assert list(pictures) == ["age 5", "91-100"]
    np.testing.assert_array_equal(pixels(pictures["age 5"]), pixels(hopper))
    np.testing.assert_array_equal(pixels(pictures["91-100"]), pixels(paste_faces(hopper, [face])))
    assert list(paste_results(hopper, [])) == []

    paths = save_photos(Original(hopper, "PNG"), results, tmp_path / "out", "me", Output(video="gif"))
    names = ["me-age5.png", "me-91-100.png", "me-ages.gif", "me-face1-photo-strip.png"]
    assert [path.name for path in paths] == names
    with Image.open(paths[1]) as saved:
        np.testing.assert_array_equal(pixels(saved), pixels(pictures["91-100"]))
    with Image.open(paths[2]) as saved:
        assert saved.size == hopper.size
    with Image.open(paths[3]) as saved:
        assert saved.width == 3 * 258 - 2  # the face has fewer than 256 pixels
