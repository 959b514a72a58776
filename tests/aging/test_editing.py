"""An editor at work on photos: the window, its strips, strength, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from helpers import small_encoder, small_estimator, small_generator
from icc import RED_IS_GREEN
from PIL import Image
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.aging.edit import Edit, by_editor
from facegen.aging.editing import (
    DRAWN_SIDE,
    EDITOR_MOST,
    FADE,
    LEAST_SIDE,
    MOST_SIDE,
    NEAR,
    PhotoEditor,
    enlarged,
    is_too_small,
)
from facegen.aging.guide import Guide
from facegen.aging.paste import paste_results
from facegen.aging.transfer import AgeTransfer
from facegen.cli import main
from facegen.faces.align import align_face
from facegen.faces.mask import protection
from facegen.faces.template import UTKFACE_TEMPLATE, Face
from facegen.images import to_float, to_rgb
from facegen.networks.editor import Editor
from facegen.weights import locate
from facegen.weights.native import save_networks

BY_EDITOR = Edit(method="editor", strength=1.0)
LANDMARKS = np.array([[225.0, 195.0], [320.0, 190.0], [275.0, 250.0], [230.0, 295.0], [315.0, 290.0]])  # in hopper


def small_editor(ages: tuple[float, float] = (0, 100)) -> Editor:
    """A narrow editor that changes something everywhere, the same one at every call."""
    torch.manual_seed(3)
    editor = Editor((8, 8), 8, 32, ages).eval()
    torch.nn.init.normal_(editor.last.weight, std=0.1)
    torch.nn.init.constant_(editor.last.bias, 0.1)
    return editor


def transfer_of(editor: Editor | None, **networks) -> AgeTransfer:
    return AgeTransfer(small_generator(10), small_encoder(), editor=editor, device="cpu", **networks)


@pytest.fixture(scope="module")
def transfer() -> AgeTransfer:
    return transfer_of(small_editor(), age_estimator=small_estimator())


@pytest.fixture(scope="module")
def at_work() -> PhotoEditor:
    return PhotoEditor(small_editor(), UTKFACE_TEMPLATE)


def face_at(scale: float = 1.0, left: float = 0.0, top: float = 0.0) -> Face:
    return Face((0, 0, 1, 1), 1.0, LANDMARKS * scale + [left, top])


def levels(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, dtype=np.float32)


def test_a_face_of_the_networks_size_changes_as_it_says(at_work: PhotoEditor, hopper: Image.Image):
    window = at_work.window(hopper, LANDMARKS, DRAWN_SIDE)
    (change,) = at_work.changes(window, 77, [20])
    face = to_float(torch.from_numpy(np.array(window.face)).permute(2, 0, 1)[None])
    change_of_face, mask = at_work.network.change(face, torch.tensor([77.0]), torch.tensor([20.0]))
    expected = (change_of_face * mask * 127.5)[0].permute(1, 2, 0).detach().numpy()
    expected = expected * protection(expected.shape[:2], at_work.template)
    np.testing.assert_allclose(window.of_face(change), expected, atol=1e-2)  # in levels
    assert change.shape == (*window.picture.size, 3)
    assert change.std() > 0


def test_a_change_follows_the_lines_of_a_larger_photo(at_work: PhotoEditor, hopper: Image.Image):
    """What halves the contrast of a small face halves that of the finest lines of the large one, and goes on beyond."""
    window = at_work.window(hopper.resize((2048, 2400)), LANDMARKS * 4, 512)
    face = levels(window.face.resize((DRAWN_SIDE, DRAWN_SIDE), Image.Resampling.LANCZOS))
    picture = levels(window.picture)
    change = enlarged(-0.5 * face, Guide(face, NEAR), window)
    off = np.abs(change + 0.5 * picture)
    assert np.median(window.of_face(off)) < 2
    fine = [np.abs(np.diff(window.of_face(part), axis=0)).mean() for part in (picture + change, picture)]
    assert 0.45 < fine[0] / fine[1] < 0.7
    assert np.median(off) < 5


def test_a_change_without_lines_is_enlarged(at_work: PhotoEditor, hopper: Image.Image):
    window = at_work.window(hopper, LANDMARKS, 256)
    face = levels(window.face.resize((DRAWN_SIDE, DRAWN_SIDE)))
    np.testing.assert_allclose(enlarged(np.full_like(face, 7.0), Guide(face, NEAR), window), 7, atol=0.01)


@pytest.mark.parametrize(("scale", "side"), [(0.1, LEAST_SIDE), (0.5, LEAST_SIDE), (4.0, MOST_SIDE)])
def test_a_window_has_the_photos_resolution_within_limits(
    at_work: PhotoEditor, hopper: Image.Image, scale: float, side: int
):
    photo = hopper.resize((round(512 * scale), round(600 * scale)))
    window = at_work.window(photo, LANDMARKS * scale)
    assert window.face.size == (side, side)
    assert window.picture.size == (1.25 * side, 1.25 * side)


def test_the_face_of_a_window_is_the_aligned_face(at_work: PhotoEditor, hopper: Image.Image):
    face = at_work.window(hopper, LANDMARKS, 200).face
    expected = align_face(hopper, LANDMARKS, UTKFACE_TEMPLATE, 200)
    inner = np.s_[2:-2, 2:-2]  # at its border, the crop alone has no pixels to go on with
    np.testing.assert_allclose(levels(face)[inner], levels(expected)[inner], atol=1)


def test_beyond_the_photo_is_its_mirror_image(at_work: PhotoEditor, hopper: Image.Image):
    cut = hopper.crop((200, 150, 512, 600))  # through the left eye
    window = levels(at_work.window(cut, LANDMARKS - [200, 150], 128).picture)
    assert window[:, 0].std() > 5  # no line that goes on
    tiny = at_work.window(Image.new("RGB", (1, 1), "red"), LANDMARKS, 128).picture
    assert tiny.getcolors() == [(160 * 160, (255, 0, 0))]


def test_what_is_added_fades_to_nothing_and_spares_the_rest(transfer: AgeTransfer, hopper: Image.Image):
    ((result,),) = transfer.age_found([hopper], [[face_at()]], [20], edit=BY_EDITOR)
    ((_, after),) = paste_results(hopper, [result], template=transfer.template)
    changed = np.abs(levels(after) - levels(hopper)).max(axis=2)
    center = LANDMARKS.mean(axis=0).astype(int)
    assert changed[center[1], center[0]] > 2
    assert changed[160, 330] > 2  # beside the forehead, out of the ellipse of `face_mask`
    assert changed[-40:].max() == changed[:, -40:].max() == 0
    mask = result.window.mask[..., 0]
    assert mask[0].max() < 0.01
    assert mask[result.window.margin :, result.window.margin :][:50, :50].min() == 1
    assert result.window.margin / len(mask) >= FADE


def test_no_seam(transfer: AgeTransfer):
    """In a flat photo, no pixel differs much from its neighbors: the border of the window is nowhere."""
    photo = Image.new("RGB", (512, 600), (120, 110, 100))
    torch.nn.init.zeros_((editor := small_editor()).last.weight)
    ((result,),) = transfer_of(editor).age_found([photo], [[face_at()]], [20], input_age=[70], edit=BY_EDITOR)
    ((_, after),) = paste_results(photo, [result], template=transfer.template)
    assert np.abs(levels(after) - levels(photo)).max() > 8
    assert max(np.abs(np.diff(levels(after), axis=axis)).max() for axis in (0, 1)) <= 1


def test_strength_zero_leaves_every_pixel(transfer: AgeTransfer, hopper: Image.Image):
    edit = Edit(method="editor", strength=0.0)
    ((result,),) = transfer.age_found([hopper], [[face_at()]], [20, 70], edit=edit)
    for aged, (_, picture) in zip(result.aged, paste_results(hopper, [result]), strict=True):
        np.testing.assert_array_equal(levels(picture), levels(hopper))
        np.testing.assert_array_equal(levels(aged.image), levels(result.input))


def test_the_result_says_what_was_edited(transfer: AgeTransfer, hopper: Image.Image):
    ((result,),) = transfer.age_found([hopper], [[face_at()]], [20, 70], input_age=[77], edit=BY_EDITOR)
    assert (result.input_age, result.age_is_estimated, result.too_small) == (77, False, False)
    assert [aged.strength for aged in result.aged] == [1, 1]
    assert result.reconstruction == result.input
    assert result.aged[0].image.size == result.input.size
    assert result.strip(50).width == 3 * 52 - 2  # no reconstruction among them
    expected = levels(result.input) + result.window.of_face(result.aged[0].change.astype(np.float32))
    np.testing.assert_allclose(levels(result.aged[0].image), expected.clip(0, 255), atol=0.51)


def test_strength_is_solved_up_to_the_editors_most(hopper: Image.Image):
    transfer = transfer_of(small_editor(), age_estimator=small_estimator())
    ((result,),) = transfer.age_found([hopper], [[face_at()]], [5, 95], edit=Edit(method="editor"))
    assert all(0 <= aged.strength <= EDITOR_MOST for aged in result.aged)
    assert max(aged.strength for aged in result.aged) > 0
    assert all(np.isfinite(aged.looks) for aged in result.aged)


def test_neither_generator_nor_encoder_runs(hopper: Image.Image, monkeypatch: pytest.MonkeyPatch):
    transfer = transfer_of(small_editor(), age_estimator=small_estimator())

    def refuse(*_, **__):
        raise AssertionError("it ran")

    monkeypatch.setattr(transfer.generator, "forward", refuse)
    monkeypatch.setattr(transfer.generator.synthesis, "forward", refuse)
    monkeypatch.setattr(transfer.encoder, "forward", refuse)
    assert transfer.age_found([hopper], [[face_at()]], [20], edit=Edit(method="editor"))[0][0].aged


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA"])
def test_gray_and_transparency_stay(transfer: AgeTransfer, hopper: Image.Image, mode: str):
    photo = hopper.convert(mode)
    if "A" in mode:
        photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    ((result,),) = transfer.age_found([photo], [[face_at()]], [20], edit=BY_EDITOR)
    ((_, after),) = paste_results(photo, [result])
    assert after.mode == mode
    assert np.abs(levels(after) - levels(photo)).max() > 2
    if "A" in mode:
        assert after.getchannel("A").tobytes() == photo.getchannel("A").tobytes()
    pixels = levels(result.aged[0].image)
    assert mode == "RGBA" or (pixels == pixels[..., :1]).all()


def test_two_faces_that_are_close_keep_their_own_changes(transfer: AgeTransfer, hopper: Image.Image):
    """Windows overlap: in the middle of a face, its own change is all that counts."""
    photo = Image.new("RGB", (900, 600), "gray")
    photo.paste(hopper.resize((410, 480)), (0, 60))
    photo.paste(hopper.resize((410, 480)), (300, 60))
    faces = [face_at(0.8, left, 60) for left in (0.0, 300.0)]
    ((one, other),) = transfer.age_found([photo], [faces], [20], input_age=[70, 30], edit=BY_EDITOR)
    ((_, both),), ((_, alone),) = (list(paste_results(photo, some)) for some in ([one, other], [one]))
    x, y = (LANDMARKS[2] * 0.8 + [0, 60]).astype(int)
    around = np.s_[y - 30 : y + 30, x - 30 : x + 30]
    assert np.abs(levels(alone)[around] - levels(photo)[around]).max() > 2
    np.testing.assert_allclose(levels(both)[around], levels(alone)[around], atol=1)


def test_a_change_means_the_same_in_a_photo_of_another_color_profile(transfer: AgeTransfer, hopper: Image.Image):
    red, green, blue = hopper.split()
    photo = Image.merge("RGB", [green, red, blue])  # the same colors, in the profile's numbers
    photo.info["icc_profile"] = RED_IS_GREEN
    ((result,),) = transfer.age_found([photo], [[face_at()]], [20], edit=BY_EDITOR)
    ((_, there),) = paste_results(photo, [result])
    ((plain,),) = transfer.age_found([hopper], [[face_at()]], [20], edit=BY_EDITOR)
    ((_, here),) = paste_results(hopper, [plain])
    assert np.abs(levels(to_rgb(there)) - levels(here)).mean() < 1
    assert np.abs(levels(here) - levels(hopper)).max() > 2


def test_a_face_that_is_too_small_stays_as_it_is(transfer: AgeTransfer, hopper: Image.Image):
    small, large = face_at(0.1), face_at()
    assert is_too_small(small, transfer.template)
    assert not is_too_small(large, transfer.template)
    ((one, other),) = transfer.age_found([hopper], [[large, small]], [20], edit=BY_EDITOR)
    assert (one.too_small, other.too_small, other.aged[0].strength) == (False, True, 0)
    ((_, both),), ((_, alone),) = (list(paste_results(hopper, some)) for some in ([one, other], [one]))
    np.testing.assert_array_equal(levels(both), levels(alone))
    assert_refused("32 pixels", transfer.check_found, [small, small], BY_EDITOR)
    transfer.check_found([small], Edit())  # the generator takes what it gets
    transfer.check_found([], BY_EDITOR)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"layers": "coarse"}, "layers"),
        ({"psi": 0.7}, "psi"),
        ({"refine": 5}, "refine"),
        ({"hold": []}, "hold"),
        ({"layers": "fine", "refine": 5}, "layers, refine"),
    ],
)
def test_what_only_the_generator_knows_is_refused(transfer: AgeTransfer, edit: dict, words: str):
    assert_refused(words, transfer.check, [20], edit=Edit(method="editor", **edit))


def test_what_an_editor_can_do_is_checked_before_it_works(transfer: AgeTransfer):
    transfer.check([20], edit=Edit(method="editor", hold=["sex"]))
    assert_refused("--editor", transfer_of(None).check, [20], edit=Edit(method="editor"), input_ages=[40])
    narrow = transfer_of(small_editor((20, 60)), age_estimator=small_estimator())
    narrow.check([20, 60], edit=BY_EDITOR)
    assert_refused("20 to 60", narrow.check, [65], edit=BY_EDITOR)
    assert_refused("20 to 60", narrow.check, [30], input_ages=[10], edit=BY_EDITOR)
    assert_refused("photos", transfer.render, torch.zeros(1, 3, 16, 16), [20], edit=BY_EDITOR)
    assert_refused("photos", transfer.decode, torch.zeros(8), [20], edit=BY_EDITOR)


def test_an_estimated_age_is_one_that_the_editor_knows(hopper: Image.Image):
    narrow = transfer_of(small_editor((97, 99)), age_estimator=small_estimator())
    ((result,),) = narrow.age_found([hopper], [[face_at()]], [98], edit=BY_EDITOR)
    assert 97 <= result.input_age <= 99


def test_the_default_method_is_as_before(transfer: AgeTransfer, monkeypatch: pytest.MonkeyPatch):
    assert transfer.method(Edit()) == transfer_of(None).method(Edit()) == "swap"
    monkeypatch.setattr("facegen.aging.transfer.EDITOR_FIRST", True)
    assert transfer.method(Edit()) == "editor"
    assert transfer.method(Edit(method="swap")) == transfer.method(Edit(refine=5)) == "swap"
    assert transfer_of(None).method(Edit()) == "swap"


def test_a_named_editor_is_the_method():
    assert (
        by_editor(Edit(), "e.safetensors").method
        == by_editor(Edit(method="editor"), "e.safetensors").method
        == "editor"
    )
    assert by_editor(Edit(), None) == Edit()
    assert_refused("shift", by_editor, Edit(method="shift"), "e.safetensors")


def test_the_checksum_takes_the_editor_in_where_it_works():
    transfers = [transfer_of(editor) for editor in (None, small_editor(), Editor((8, 8), 8, 32))]
    assert len({transfer.checksum(BY_EDITOR) for transfer in transfers}) == 3
    assert len({transfer.checksum(Edit()) for transfer in transfers}) == 1


def test_ages_are_drawn_at_once_as_one_by_one(
    at_work: PhotoEditor, hopper: Image.Image, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("facegen.aging.editing.AGES_AT_ONCE", 2)
    window, ages = at_work.window(hopper, LANDMARKS), [5, 40, 90]
    together = list(at_work.changes(window, 77, ages))
    assert len(together) == 3
    for age, change in zip(ages, together, strict=True):
        (alone,) = at_work.changes(window, 77, [age])
        np.testing.assert_allclose(change, alone, atol=1e-2)  # in levels
    assert np.abs(together[0] - together[2]).max() > 1


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """A function that calls `facegen transfer` with small networks; the editor is `e.safetensors`."""
    header = {"groups": AgeGroups.default().labels, "template": UTKFACE_TEMPLATE.to_json()}
    save_networks(tmp_path / "generator.safetensors", {"G_ema": small_generator(10)}, header)
    save_networks(tmp_path / "encoder.safetensors", {"encoder": small_encoder()}, header)
    save_networks(tmp_path / "age.safetensors", {"age": small_estimator()}, {})
    save_networks(tmp_path / "e.safetensors", {"editor": small_editor()}, header)
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)

    def call(*arguments: object) -> Result:
        return CliRunner().invoke(main, ["transfer", *map(str, arguments), "--outdir", str(tmp_path / "out")])

    return call


def test_the_command(run, tmp_path: Path, hopper: Image.Image):
    hopper.convert("L").save(tmp_path / "me.png")
    options = ["--ages", "20", "--editor", tmp_path / "e.safetensors", "--output", "both"]
    result = run(tmp_path / "me.png", *options)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "out" / "me-age20.png") as picture:
        assert (picture.mode, picture.size) == ("L", hopper.size)
    assert (tmp_path / "out" / "me-face1-age20.png").is_file()
    settings = json.loads((tmp_path / "out" / "me.json").read_text(encoding="utf-8"))["settings"]
    assert settings["method"] == "editor"
    written = (tmp_path / "out" / "me.json").stat().st_mtime_ns
    assert run(tmp_path / "me.png", *options, "--skip-existing").exit_code == 0
    assert (tmp_path / "out" / "me.json").stat().st_mtime_ns == written


def test_the_editor_of_the_package_is_taken_where_there_is_one(run, tmp_path: Path, hopper: Image.Image):
    hopper.save(tmp_path / "me.png")
    result = run(tmp_path / "me.png", "--ages", "20", "--method", "editor")
    assert result.exit_code == 1
    assert result.output.count("Error:") == 1
    (tmp_path / "e.safetensors").rename(tmp_path / "editor.safetensors")
    assert run(tmp_path / "me.png", "--ages", "20", "--method", "editor").exit_code == 0


def test_what_the_command_refuses(run, tmp_path: Path, hopper: Image.Image):
    hopper.save(tmp_path / "me.png")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    named = ["--ages", "20", "--editor", tmp_path / "e.safetensors"]
    for arguments in (
        [tmp_path / "one.png", *named],
        [tmp_path / "me.png", *named, "--method", "shift"],
        [tmp_path / "me.png", *named, "--paste-back", "face"],
        [tmp_path / "me.png", *named, "--refine", "5"],
        [tmp_path / "me.png", "--ages", "20", "--editor", tmp_path / "age.safetensors"],
        [tmp_path / "me.png", "--ages", "20", "--editor", tmp_path / "none.safetensors"],
    ):
        result = run(*arguments)
        assert result.exit_code == 1, arguments
        assert result.output.count("Error:") == 1, result.output
    assert not list((tmp_path / "out").glob("*.png"))


def test_faces_that_are_too_small_are_said(run, tmp_path: Path, hopper: Image.Image, monkeypatch: pytest.MonkeyPatch):
    named = ["--ages", "20", "--editor", tmp_path / "e.safetensors"]
    hopper.save(tmp_path / "me.png")
    found = [face_at(), face_at(0.1)]
    monkeypatch.setattr("facegen.batch.run.find_faces_batch", lambda photos: [found for _ in photos])
    result = run(tmp_path / "me.png", *named)
    assert result.exit_code == 0, result.output
    assert "face 2 is too small for the editor" in result.stderr
    del found[0]
    result = run(tmp_path / "me.png", *named)
    assert result.exit_code == 1
    assert "32 pixels" in result.stderr


def test_the_editor_of_the_package_is_only_for_its_generator(run, tmp_path: Path):
    """A generator of other groups works as if there were none."""
    header = {"groups": ["0-50", "51-"], "template": UTKFACE_TEMPLATE.to_json()}
    save_networks(tmp_path / "editor.safetensors", {"editor": small_editor()}, header)
    transfer = AgeTransfer.from_files(device="cpu")
    assert transfer.editor is None
    assert_refused("none for this generator", transfer.check, [20], edit=BY_EDITOR, input_ages=[40])


def test_an_editor_of_other_faces_is_refused(run, tmp_path: Path):
    groups = AgeGroups.default().labels
    wide = [[0.2, 0.3], [0.8, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]]
    near = (np.array(UTKFACE_TEMPLATE.points) + 0.005).tolist()
    for header, words in (({"groups": ["0-50", "51-"]}, "age groups"), ({"template": wide}, "alignment")):
        save_networks(tmp_path / "other.safetensors", {"editor": small_editor()}, header)
        assert_refused(words, AgeTransfer.from_files, editor=tmp_path / "other.safetensors", device="cpu")
    for header in ({}, {"groups": groups, "template": near}):  # it does not say; as well as can be measured
        save_networks(tmp_path / "other.safetensors", {"editor": small_editor()}, header)
        transfer = AgeTransfer.from_files(editor=tmp_path / "other.safetensors", device="cpu")
        assert transfer.editor is not None
