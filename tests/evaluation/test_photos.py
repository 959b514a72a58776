from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers import write_faces
from PIL import Image

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter, FaceArchive
from facegen.errors import FacegenError
from facegen.evaluation import photos as photos_module
from facegen.evaluation.photos import choose, load_photos
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate, alignment_matrix
from facegen.images import encode_png

GROUPS = AgeGroups.default()
HOW = {"size": 16, "template": UTKFACE_TEMPLATE, "groups": GROUPS, "progress": False}


def test_faces_are_drawn_evenly_of_the_groups():
    ages = np.array([25.0] * 50 + [5.0] * 10 + [70.0] * 2 + [np.nan] * 5)
    chosen, others = choose(ages, GROUPS, limit=11, reals=8)
    drawn = ages[chosen]
    assert [(drawn == age).sum() for age in (25, 5, 70)] == [3, 3, 2]
    assert np.isnan(drawn).sum() == 3
    # What is left, up to eight of each group in all; of unknown age nobody knows the group.
    assert [(ages[others] == age).sum() for age in (25, 5, 70)] == [5, 5, 0]
    assert not np.isnan(ages[others]).any()
    assert not set(chosen) & set(others)
    # Real faces are the same whatever the limit, so that what the judges make of them can be kept.
    few, more = choose(ages, GROUPS, limit=2, reals=8)
    assert sorted(few + more) == sorted(
        choose(ages, GROUPS, limit=4, reals=8)[0] + choose(ages, GROUPS, limit=4, reals=8)[1]
    )
    assert choose(ages, GROUPS, limit=11, seed=1)[0] != chosen
    assert sorted(choose(ages, GROUPS)[0]) == list(range(67))
    with pytest.raises(FacegenError, match="at least one"):
        choose(ages, GROUPS, limit=0)


def test_an_archive_comes_as_it_is(archive: Path):
    photos = load_photos(archive, limit=5, **HOW)
    assert (photos.tested, photos.available, len(photos.names), photos.realigned) == (5, 12, 12, False)
    source = FaceArchive(archive)
    for name, image, age in zip(photos.names, photos.images, photos.ages, strict=True):
        index = source.file_names.index(name)
        np.testing.assert_array_equal(image, source.image(index))
        assert age == source.ages[index]


def test_an_archive_of_another_size_or_alignment_is_fitted(
    archive: Path, hopper: Image.Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert load_photos(archive, **{**HOW, "size": 32}).images.shape == (12, 3, 32, 32)
    # Of photos that are larger than the generator's faces, what people see is judged.
    assert load_photos(write_faces(tmp_path / "large.zip", [30], size=64), **HOW).images.shape == (1, 3, 64, 64)
    monkeypatch.setattr(photos_module, "VIEW", 32)
    assert load_photos(tmp_path / "large.zip", **HOW).images.shape == (1, 3, 32, 32)
    lower = AlignmentTemplate(tuple((x, y + 0.1) for x, y in UTKFACE_TEMPLATE.points))
    path = tmp_path / "lower.zip"
    with ArchiveWriter(path, template=lower) as writer:
        writer.add("a.png", hopper.crop((140, 100, 396, 356)), age=77)
    photos = load_photos(path, **{**HOW, "size": 256})
    assert photos.realigned
    # Every point of the face moves up by a tenth of the side: 25.6 pixels.
    found = photos.images[0].permute(1, 2, 0).numpy()[:225].astype(np.float64)
    moved, still = (np.asarray(hopper.crop((140, top, 396, top + 225)), np.float64) for top in (126, 100))
    assert np.abs(found - moved).mean() < 6  # four tenths of a pixel beside it
    assert np.abs(found - still).mean() > 20


def test_faces_are_found_in_a_folder_of_photos(hopper: Image.Image, tmp_path: Path):
    hopper.save(tmp_path / "77_1_0_1984.jpg")
    hopper.convert("L").save(tmp_path / "unknown.png")
    Image.new("RGB", (90, 90), "blue").save(tmp_path / "sky.png")
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    photos = load_photos(tmp_path, **HOW)
    assert sorted(photos.names) == ["77_1_0_1984.jpg", "unknown.png"]
    assert photos.ages[photos.names.index("77_1_0_1984.jpg")] == 77
    assert np.isnan(photos.ages[photos.names.index("unknown.png")])
    assert photos.tested == 2
    assert photos.images.shape == (2, 3, photos_module.VIEW, photos_module.VIEW)
    # The face's own landmarks, close to where those of all faces lie: it is aligned already.
    np.testing.assert_allclose(photos.landmarks[0] / photos_module.VIEW, UTKFACE_TEMPLATE.points, atol=0.05)
    np.testing.assert_allclose(
        alignment_matrix(photos.landmarks[0], UTKFACE_TEMPLATE, photos_module.VIEW), [[1, 0, 0], [0, 1, 0]], atol=1e-6
    )
    assert set(photos.left_out) == {"sky.png", "broken.jpg"}
    assert "no face found" in photos.left_out["sky.png"]


def test_nothing_to_evaluate(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_photos(tmp_path / "nowhere", **HOW)
    with pytest.raises(FacegenError, match="no picture in it"):
        load_photos(tmp_path, **HOW)
    Image.new("RGB", (90, 90), "blue").save(tmp_path / "sky.png")
    with pytest.raises(FacegenError, match=r"it has no face to evaluate \(first: .*sky.png: no face found"):
        load_photos(tmp_path, **HOW)


@pytest.mark.parametrize(
    ("name", "age"),
    [
        ("26_1_2_20170116174525125.jpg.chip.jpg", 26),
        ("a/b/100_0_0_1.webp", 100),
        ("0_MariaCallas_35_f.jpg", 35),
        ("images/001A02.JPG", 2),
        ("CACD2000/53_Robin_Williams_0001.jpg", 53),
        ("40/anna.png", 40),
        ("20-29/anna.png", None),  # not an exact age
        ("26_1_2.jpg", None),
        ("x.png", None),
    ],
)
def test_ages_are_those_of_the_data_set(name: str, age: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(photos_module, "find_faces", lambda photo: [np.array(UTKFACE_TEMPLATE.points) * photo.width])
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (16, 16)).save(tmp_path / name)
    (found,) = load_photos(tmp_path, **HOW).ages
    assert np.isnan(found) if age is None else found == age


def test_a_table_that_cannot_be_read_leaves_the_ages_in_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(photos_module, "find_faces", lambda photo: [np.array(UTKFACE_TEMPLATE.points) * photo.width])
    for name in ("26_1_2_1.png", "x.png", "y.png"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    (tmp_path / "notes.csv").write_text("day,weather\nMonday,rain\n", encoding="utf-8")
    photos = load_photos(tmp_path, **HOW)
    assert dict(zip(photos.names, np.nan_to_num(photos.ages, nan=-1), strict=True)) == {
        "26_1_2_1.png": 26,
        "x.png": -1,
        "y.png": -1,
    }


def test_persons_are_those_of_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(photos_module, "find_faces", lambda photo: [np.array(UTKFACE_TEMPLATE.points) * photo.width])
    for name in ("0_MariaCallas_35_f.jpg", "1_MariaCallas_50_f.jpg", "2_GlennClose_62_f.jpg"):
        Image.new("RGB", (16, 16)).save(tmp_path / name)
    photos = load_photos(tmp_path, **HOW)
    found = dict(zip(photos.names, photos.people, strict=True))
    assert found["0_MariaCallas_35_f.jpg"] == found["1_MariaCallas_50_f.jpg"] != found["2_GlennClose_62_f.jpg"]
    with ArchiveWriter(tmp_path / "held.zip") as writer:
        for index, person in enumerate(("anna", "anna", None)):
            writer.add_png(f"{index}.png", encode_png(Image.new("RGB", (16, 16))), age=20, person=person)
    photos = load_photos(tmp_path / "held.zip", **HOW)
    people = dict(zip(photos.names, photos.people, strict=True))
    assert [people[name] for name in sorted(people)] == ["anna", "anna", None]
