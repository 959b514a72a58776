from __future__ import annotations

import json
import multiprocessing
import pickle
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.data import archive as archive_module
from facegen.data.archive import ArchiveWriter, FaceArchive, label_counts
from facegen.data.contents import FEW_VALUES, read_contents
from facegen.errors import FacegenError
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.images import encode_png

GROUPS = AgeGroups.parse("0-12,13-19,60-")


@pytest.fixture
def written(tmp_path, tinted):
    """An archive of five 16x16 faces as `facegen prepare` writes it."""
    path = tmp_path / "five.zip"
    with ArchiveWriter(path, groups=GROUPS) as writer:
        for index, age in enumerate((5, 15, 70, 12, 90)):
            writer.add(f"{age}_x.jpg", tinted(index), GROUPS.index_of(age), age)
    return path


def refusal(path, **options) -> str:
    """The message with which FaceArchive refuses the archive; one line that names it."""
    return assert_refused(
        str(path),
        lambda: FaceArchive(path, **options).load_all(progress=False),
        error=(FacegenError, FileNotFoundError),
    )


# --- written and read again ---


def test_what_is_written_is_read_again(written, tinted):
    archive = FaceArchive(written)
    assert (len(archive), archive.resolution, archive.channels, archive.c_dim) == (5, 16, 3, 3)
    assert archive.name == "five"
    assert archive.labels.dtype == np.int64
    assert archive.labels.tolist() == [0, 1, 2, 0, 2]
    assert archive.ages.tolist() == [5, 15, 70, 12, 90]
    assert archive.groups == GROUPS
    assert archive.class_names == ["0-12", "13-19", "60+"]
    assert archive.template is None
    with pytest.raises(IndexError):
        archive[5]
    for index, (image, label) in enumerate(archive):
        assert image.dtype == np.uint8
        assert image.flags.c_contiguous
        np.testing.assert_array_equal(image, np.asarray(tinted(index)).transpose(2, 0, 1))
        assert label.dtype == np.float32
        np.testing.assert_array_equal(label, np.eye(3)[archive.labels[index]])


def test_files_on_disk_are_the_family_format(written):
    with zipfile.ZipFile(written) as archive:
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}
        labels = json.loads(archive.read("dataset.json"))["labels"]
        extra = json.loads(archive.read("facegen.json"))
    assert labels[:2] == [["00000/img00000000.png", 0], ["00000/img00000001.png", 1]]
    assert extra["faces"][0] == {"file": "00000/img00000000.png", "age": 5, "source": "5_x.jpg"}
    expected = {"format": 1, "groups": ["0-12", "13-19", "60+"], "template": None, "resolution": 16}
    assert expected.items() <= extra.items()


def test_writer_takes_arrays_and_odd_modes(tmp_path, tinted):
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        writer.add("array", np.asarray(tinted(0)))
        writer.add("rgba", tinted(1).convert("RGBA"))
    assert FaceArchive(tmp_path / "a.zip", use_labels=False).load_all(progress=False).shape == (2, 3, 16, 16)


def test_the_writer_knows_what_is_read_again(tmp_path, tinted):
    with ArchiveWriter(tmp_path / "a.zip", groups=GROUPS) as writer:
        writer.add_png("a.jpg", encode_png(tinted(0)), 0, 5, gender="female", person="a")
        writer.add_png("b.jpg", encode_png(tinted(1)), 1, None, ages=[13, 19], glasses=True)
        writer.template = UTKFACE_TEMPLATE
    known, found = writer.contents(), read_contents(tmp_path / "a.zip")
    assert found.problems == []
    assert [face.ages for face in found.faces] == ["5", "13-19"]
    assert replace(known, files=found.files) == found
    archive = FaceArchive(tmp_path / "a.zip")
    assert archive.template == UTKFACE_TEMPLATE
    assert archive.attribute("gender") == ["female", None]


def test_thousand_pictures_to_a_folder(tmp_path):
    png = encode_png(Image.new("RGB", (4, 4)))
    with ArchiveWriter(tmp_path / "a.zip") as writer:
        names = [writer.add_png(str(i), png) for i in range(1001)]
    assert names[999:] == ["00000/img00000999.png", "00001/img00001000.png"]


def write(path, *pictures, groups=None, fail=None):
    """Write an archive of (name, picture, label) entries; raise `fail` before it is finished."""
    with ArchiveWriter(path, groups=groups) as writer:
        for name, picture, label in pictures:
            writer.add(name, picture, label)
        if fail:
            raise fail


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_failure_and_interrupt_leave_nothing(tmp_path, tinted, error):
    with pytest.raises(error):
        write(tmp_path / "a.zip", ("x", tinted(0), None), fail=error)
    assert list(tmp_path.iterdir()) == []


def test_failure_keeps_the_archive_that_was_there(written, tinted):
    before = written.read_bytes()
    with pytest.raises(RuntimeError):
        write(written, ("x", tinted(0), None), fail=RuntimeError)
    assert written.read_bytes() == before


@pytest.mark.parametrize("size", [(16, 8), (12, 12), (2, 2), (8, 4)])
def test_writer_refuses_wrong_sizes_by_name(tmp_path, tinted, size):
    odd, words = tinted(0).resize(size), f"odd.jpg is {size[0]}x{size[1]} pixels"
    assert_refused(words, write, tmp_path / "a.zip", ("odd.jpg", odd, 0))
    assert_refused(words, write, tmp_path / "a.zip", ("first.jpg", tinted(0), 0), ("odd.jpg", odd, 0))
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_wrong_labels(tmp_path, tinted):
    path, x = tmp_path / "a.zip", tinted(0)
    assert_refused("x: label 3 is outside 0 to 2", write, path, ("x", x, 3), groups=GROUPS)
    assert_refused("img00000001.png has none", write, path, ("x", x, 0), ("y", x, None))
    assert_refused("no picture to write", write, path)
    assert list(tmp_path.iterdir()) == []


def test_writer_refuses_a_name_that_is_no_zip(tmp_path):
    assert_refused("must end in .zip", ArchiveWriter, tmp_path / "faces")
    (tmp_path / "folder.zip").mkdir()
    assert_refused("is a folder", ArchiveWriter, tmp_path / "folder.zip")


# --- what others write ---


def test_archive_of_the_family_needs_no_facegen_json(make_zip, tinted):
    path = make_zip(
        {"00000/img00000000.png": tinted(0), "00000/img00000001.png": tinted(1)},
        [["00000/img00000000.png", 6], ["00000/img00000001.png", 2]],
    )
    archive = FaceArchive(path)
    assert archive.c_dim == 7
    assert archive.class_names == list("0123456")
    assert (archive.groups, archive.ages, archive.template) == (None, None, None)
    assert archive[0][1].tolist() == [0, 0, 0, 0, 0, 0, 1]


def test_null_labels_read_without_labels(make_zip, tinted):
    path = make_zip({"a.png": tinted(0)}, {"labels": None})
    archive = FaceArchive(path, use_labels=False)
    assert (archive.c_dim, archive.labels.tolist(), archive.class_names) == (0, [-1], [])
    assert archive[0][1].shape == (0,)
    assert "no labels" in refusal(path)


def test_folder_reads_as_zip_does(tmp_path, written):
    with zipfile.ZipFile(written) as file:
        file.extractall(tmp_path / "unpacked")
    one, other = FaceArchive(written), FaceArchive(tmp_path / "unpacked")
    assert other.name == "unpacked"
    np.testing.assert_array_equal(one.load_all(progress=False), other.load_all(progress=False))
    np.testing.assert_array_equal(one.labels, other.labels)


def test_png_jpeg_and_webp_in_any_mode_become_rgb(tmp_path, tinted):
    folder = tmp_path / "mixed"
    folder.mkdir()
    image = tinted(0)
    image.save(folder / "a.png")
    image.save(folder / "b.jpg", quality=95)
    image.save(folder / "c.webp", lossless=True)
    image.convert("L").save(folder / "d.JPEG")
    image.quantize(256).save(folder / "e.png")
    image.convert("RGBA").save(folder / "f.PNG")
    Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / "g.png")
    image.convert("CMYK").save(folder / "h.jpg", quality=95)
    (folder / "notes.txt").write_text("not a picture")
    archive = FaceArchive(folder, use_labels=False)
    assert (len(archive), archive.channels) == (8, 3)
    images = archive.load_all(progress=False).astype(int)
    gray = np.asarray(image.convert("L")).astype(int)
    truth = np.asarray(image).astype(int).transpose(2, 0, 1)
    for name, picture in zip(archive.file_names, images, strict=True):
        expected = gray if name in {"d.JPEG", "g.png"} else truth
        # JPEG and the colors of a palette lose a little; a mix-up of modes loses far more.
        assert np.abs(picture - expected).mean() < 8, name
    np.testing.assert_array_equal(images[2], truth)
    np.testing.assert_array_equal(images[6], np.stack([gray] * 3))


def test_transparent_pixels_become_white(make_zip):
    path = make_zip({"a.png": Image.new("RGBA", (8, 8), (255, 0, 0, 0))})
    assert (FaceArchive(path, use_labels=False)[0][0] == 255).all()


def test_gray_archive_has_one_channel(make_zip, tinted):
    path = make_zip({"a.png": tinted(0).convert("L"), "b.png": tinted(1).convert("LA")})
    archive = FaceArchive(path, use_labels=False)
    assert archive.channels == 1
    assert archive[1][0].shape == (1, 16, 16)
    np.testing.assert_array_equal(archive[0][0][0], np.asarray(tinted(0).convert("L")))


def test_noise_of_other_systems_is_no_picture(make_zip, tinted):
    path = make_zip({"a.png": tinted(0), "__MACOSX/._a.png": b"x", ".hidden/b.png": b"x", "._a.png": b"x"})
    assert FaceArchive(path, use_labels=False).file_names == ["a.png"]


def test_labels_of_files_that_are_gone_are_told(make_zip, tinted):
    path = make_zip({"a.png": tinted(0)}, [["a.png", 0], ["gone.png", 1]])
    with pytest.warns(UserWarning, match=r"labels 1 files that are not there \(first: gone.png\)"):
        FaceArchive(path)


# --- subsets, processes ---


def test_max_images_draws_by_seed_and_keeps_the_classes(written):
    one = FaceArchive(written, max_images=2, seed=1)
    assert one.file_names == FaceArchive(written, max_images=2, seed=1).file_names
    assert (len(one), one.c_dim) == (2, 3)
    draws = {tuple(FaceArchive(written, max_images=2, seed=seed).file_names) for seed in range(8)}
    assert len(draws) > 1
    assert len(FaceArchive(written, max_images=99)) == 5
    whole = FaceArchive(written)
    for name, label, age in zip(one.file_names, one.labels, one.ages, strict=True):
        index = whole.file_names.index(name)
        assert (label, age) == (whole.labels[index], whole.ages[index])
    assert_refused("max_images is 0", FaceArchive, written, max_images=0)


def _sum_of(archive: FaceArchive) -> int:
    return int(sum(image.astype(int).sum() for image, _ in archive))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_the_same(written, method):
    archive = FaceArchive(written)
    expected = _sum_of(archive)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(_sum_of, [archive] * 4) == [expected] * 4
    assert _sum_of(archive) == expected


def test_data_loader_with_workers(written):
    import torch

    archive = FaceArchive(written)
    archive[0]  # opens the zip, which the forked workers must not share
    loader = torch.utils.data.DataLoader(archive, batch_size=4, num_workers=2)
    images = torch.cat([images for images, _ in loader])
    np.testing.assert_array_equal(images.numpy(), archive.load_all(progress=False))


def test_pickle_keeps_no_open_file(written):
    archive = FaceArchive(written)
    archive[0]
    again = pickle.loads(pickle.dumps(archive))
    archive.close()
    np.testing.assert_array_equal(again[3][0], archive[3][0])


def test_an_attribute_is_in_the_order_of_the_pictures(make_described):
    known = [{"gender": "male"}, {"gender": None}, {}, {"gender": "female", "glasses": True}, {"gender": ""}]
    path = make_described(*known)
    archive = FaceArchive(path)
    assert archive.attribute("gender") == ["male", None, None, "female", None]
    assert archive.attribute("glasses") == [None, None, None, "True", None]
    subset = FaceArchive(path, max_images=3, seed=1)
    value_of = dict(zip(archive.file_names, archive.attribute("gender"), strict=True))
    assert subset.attribute("gender") == [value_of[name] for name in subset.file_names]


def test_an_attribute_that_says_unknown_is_unknown(make_described):
    archive = FaceArchive(make_described({"gender": "unknown"}, {"gender": "male"}))
    assert archive.attribute("gender") == [None, "male"]
    path = make_described(*[{"gender": "male"}] * 1, *[{}] * 9)
    subsets = [FaceArchive(path, max_images=1, seed=seed) for seed in range(9)]
    nothing_known = next(subset for subset in subsets if subset.file_names != ["00.png"])
    assert_refused("knows 'gender' of none of these 1 pictures", nothing_known.attribute, "gender")


@pytest.mark.parametrize("name", ["race", "source", "file", "age", "ages", ""])
def test_an_attribute_that_is_not_kept_is_refused(make_described, name):
    path = make_described({"gender": "male", "ages": [3, 9], "race": None}, {"person": 7})
    message = assert_refused(f"no attribute {name!r}", FaceArchive(path).attribute, name)
    assert message.endswith("it keeps gender, person")


def test_an_attribute_of_many_values_is_refused(make_described):
    known = [{"person": index % FEW_VALUES} for index in range(21)]
    assert len(set(FaceArchive(make_described(*known)).attribute("person"))) == 20
    known[20]["person"] = "one more"
    archive = FaceArchive(make_described(*known))
    assert_refused("takes at most 20 values (it takes 21); it keeps none", archive.attribute, "person")


def test_an_archive_of_the_family_keeps_no_attribute(make_zip, tinted):
    archive = FaceArchive(make_zip({"a.png": tinted(0)}, [["a.png", 0]]))
    assert_refused("it keeps none", archive.attribute, "gender")


def test_label_counts_leave_out_the_unlabeled():
    assert label_counts([0, 2, 2, -1], 4).tolist() == [1, 0, 2, 0]


# --- refused ---


def test_not_there_not_a_whole_zip_and_empty(tmp_path, make_zip, written):
    assert "no such folder or zip" in refusal(tmp_path / "nowhere.zip")
    for content in (b"hello", b"", written.read_bytes()[:-100]):
        (tmp_path / "file.zip").write_bytes(content)
        assert "not a readable zip" in refusal(tmp_path / "file.zip")
    (tmp_path / "folder").mkdir()
    assert "no picture in it" in refusal(tmp_path / "folder")
    assert "no picture in it" in refusal(make_zip({"readme.txt": b"hi"}))


def test_damaged_zip_names_the_file(written):
    content = bytearray(written.read_bytes())
    start = content.index(b"00000/img00000002.png") + 100
    content[start : start + 8] = b"XXXXXXXX"
    written.write_bytes(content)
    assert "img00000002.png" in refusal(written)


@pytest.mark.parametrize(
    "content", [b"", b"not a picture", encode_png(Image.effect_noise((16, 16), 50))[:200], b"\x89PNG\r\n\x1a\n"]
)
def test_broken_pictures_are_named(make_zip, tinted, content):
    assert "broken.png" in refusal(make_zip({"a.png": tinted(0), "broken.png": content}), use_labels=False)


def test_large_archives_are_checked_when_decoded(make_zip, tinted, monkeypatch):
    monkeypatch.setattr(archive_module, "_CHECK_ALL_UP_TO", 2)
    files = {f"{i}.png": tinted(i) for i in range(6)}
    path = make_zip({**files, "4.png": tinted(4, 32)})
    archive = FaceArchive(path, use_labels=False)
    assert archive[0][0].shape == (3, 16, 16)
    assert_refused("4.png is 32x32 pixels, the others 16x16", archive.image, 4)
    path = make_zip({name: image.convert("L") for name, image in files.items()} | {"4.png": tinted(4)})
    assert "4.png is a color picture among gray ones" in refusal(path, use_labels=False)


def test_vectors_are_no_labels_to_train_on(make_zip, tinted):
    path = make_zip({"a.png": tinted(0), "b.png": tinted(1)}, [["a.png", [0, 1]], ["b.png", [1, 0]]])
    assert "one-hot vectors" in refusal(path)
    assert FaceArchive(path, use_labels=False).c_dim == 0


def test_mistakes_that_do_no_harm_are_passed_over(make_zip, tinted):
    faces = [{"file": "a.png", "age": 500}, {"file": "gone.png", "age": 5}, {"file": "b.png", "age": 5}]
    extra = {"format": 1, "groups": ["0-10", "11-20"], "faces": faces}
    archive = FaceArchive(make_zip({"a.png": tinted(0), "b.png": tinted(1)}, [["a.png", 0], ["b.png", 1]], extra))
    assert (archive.ages.tolist(), archive.labels.tolist()) == ([-1, 5], [0, 1])


def test_missing_labels(make_zip, tinted):
    files = {name: tinted(0) for name in ("a.png", "b.png", "c.png")}
    assert "no labels in it" in refusal(make_zip(files))
    assert "no labels in it" in refusal(make_zip(files, []))
    message = refusal(make_zip(files, [["a.png", 0]]))
    assert "picture without a label: b.png" in message
    assert "1 of 2 mistakes" in message


def test_the_same_label_twice_is_no_mistake(make_zip, tinted):
    assert FaceArchive(make_zip({"a.png": tinted(0)}, [["a.png", 0], ["a.png", 0]])).labels.tolist() == [0]


def test_encrypted_zip(make_zip, tinted):
    path = make_zip({"a.png": tinted(0)})
    content = bytearray(path.read_bytes())
    content[6] |= 1  # the encryption bit, in the local header and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    assert "cannot read a.png" in refusal(path, use_labels=False)
