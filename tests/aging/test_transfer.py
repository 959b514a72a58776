from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import small_encoder, small_generator
from PIL import Image, ImageOps
from refusals import assert_refused

from facegen.ages import AgeGroups
from facegen.aging.edit import Edit, group_of, wanted_ages
from facegen.aging.paste import paste_results
from facegen.aging.results import FROM_THE_SIDE, FaceResult
from facegen.aging.transfer import AgeTransfer
from facegen.batch.save import save_results
from facegen.errors import FacegenError
from facegen.faces.align import align_face
from facegen.faces.find import find_faces, find_faces_batch
from facegen.faces.mtcnn import get_detector
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate, Face, invert_matrix
from facegen.images import open_photo
from facegen.networks.age_shift import AgeShift
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.networks.latents import draw, group_means, place_latents
from facegen.photos.original import open_original
from facegen.weights import locate
from facegen.weights.native import save_networks

GROUPS = AgeGroups.parse("0-20,21-40,41-60,71-80")


@dataclass
class Networks:
    generator: Generator
    encoder: Encoder
    generator_path: Path
    encoder_path: Path


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Networks:
    folder = tmp_path_factory.mktemp("weights")
    generator = small_generator(4)
    encoder = small_encoder()
    header = {"groups": GROUPS.labels, "template": [[0.2, 0.3], [0.8, 0.3], [0.5, 0.5], [0.3, 0.7], [0.7, 0.7]]}
    save_networks(folder / "g.safetensors", {"G_ema": generator}, header)
    save_networks(folder / "e.safetensors", {"encoder": encoder}, header)
    return Networks(generator, encoder, folder / "g.safetensors", folder / "e.safetensors")


@pytest.fixture(scope="module")
def transfer(networks: Networks) -> AgeTransfer:
    return AgeTransfer(networks.generator, networks.encoder, groups=GROUPS, device="cpu")


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image, dtype=np.float32)


def test_transfer_shows_a_face_in_every_group(transfer: AgeTransfer, hopper: Image.Image):
    (result,) = transfer.age_faces(hopper)
    assert [face.caption for face in result.aged] == ["0-20", "21-40", "41-60", "71-80"]
    assert [face.group for face in result.aged] == [0, 1, 2, 3]
    assert all(face.image.size == (16, 16) and face.image.mode == "RGB" for face in result.aged)
    face = find_faces(hopper)[0]
    np.testing.assert_array_equal(pixels(result.input), pixels(align_face(hopper, face, UTKFACE_TEMPLATE, 16)))
    assert result.box == face.box
    # The matrix takes the eyes of the photo to the eyes of the picture, as well as a similarity can.
    eyes = face.landmarks[:2] @ result.matrix[:, :2].T + result.matrix[:, 2]
    np.testing.assert_allclose(eyes, np.array(UTKFACE_TEMPLATE.points[:2]) * 16, atol=1)
    assert result.latent.shape == (8,)
    assert result.strip(tile=50).width == 6 * 52 - 2


def test_aged_faces_are_the_decoded_latent(transfer: AgeTransfer, networks: Networks, hopper: Image.Image):
    (result,) = transfer.age_faces(hopper, ages=[30])
    z = networks.encoder(transfer.to_tensor([result.input]))
    label = torch.eye(4)[1:2]
    expected = draw(networks.generator, place_latents(networks.generator, z, label, group_means(networks.generator)))
    expected = (expected * 127.5 + 128).clamp(0, 255).to(torch.uint8)[0].permute(1, 2, 0).numpy()
    # One level: a batch of another size may round the last bit of a float the other way.
    np.testing.assert_allclose(pixels(result.aged[0].image), expected, atol=1)


def test_ages_know_their_groups(transfer: AgeTransfer, hopper: Image.Image):
    (result,) = transfer.age_faces(hopper, ages=[75, 5, 20.5, 64])
    assert [(face.caption, face.group) for face in result.aged] == [
        ("age 75", 3),
        ("age 5", 0),
        ("age 20.5", 0),
        ("age 64", 3),  # in a gap between groups: the closest one
    ]


def test_the_middle_of_a_group_is_the_group(transfer: AgeTransfer, hopper: Image.Image):
    (groups,) = transfer.age_faces(hopper)
    (middles,) = transfer.age_faces(hopper, ages=[10, 30, 50, 75])
    assert [face.age for face in groups.aged] == [10, 30, 50, 75]
    for one, other in zip(groups.aged, middles.aged, strict=True):
        np.testing.assert_array_equal(pixels(one.image), pixels(other.image))


def test_transfer_is_deterministic(transfer: AgeTransfer, hopper: Image.Image):
    first, second = (transfer.age_faces(hopper)[0] for _ in range(2))
    np.testing.assert_array_equal(pixels(first.strip()), pixels(second.strip()))


def test_reconstruction_is_in_the_group_of_the_given_age(transfer: AgeTransfer, hopper: Image.Image):
    for age, group in ((10, 0), (77, 3)):
        (result,) = transfer.age_faces(hopper, input_age=age)
        assert (result.input_age, result.input_group) == (age, group)
        # One level: a batch of another size may round the last bit of a float the other way.
        np.testing.assert_allclose(pixels(result.reconstruction), pixels(result.aged[group].image), atol=1)


def test_an_estimated_age_is_shown(transfer: AgeTransfer, hopper: Image.Image):
    (told,), (estimated,) = transfer.age_faces(hopper, input_age=44.4), transfer.age_faces(hopper)
    assert told.input_caption == "input"
    assert estimated.input_caption == f"input, looks {estimated.input_age:.0f}"
    shown = replace(told, age_is_estimated=True)
    assert shown.input_caption == "input, looks 44"
    assert (pixels(shown.strip(tile=160)) != pixels(told.strip(tile=160))).any()


def test_a_face_says_how_far_it_is_turned_and_how_much_of_it_the_photo_shows(
    transfer: AgeTransfer, hopper: Image.Image
):
    (whole,) = transfer.age_faces(hopper, [50])
    assert abs(whole.yaw) < FROM_THE_SIDE
    assert whole.inside == 1
    half = hopper.crop((0, 0, 263, hopper.height))  # of whose face the photo ends at the nose
    turned = Face(whole.box, 1.0, invert_points(whole, [(0.42, 0.3), (0.6, 0.3), (0.7, 0.5), (0.45, 0.7), (0.6, 0.7)]))
    ((cut,), (side,)) = transfer.age_found([half, hopper], [find_faces(hopper), [turned]], [50])
    assert cut.inside == pytest.approx(0.5, abs=0.05)
    assert side.yaw > FROM_THE_SIDE
    eyes = [np.subtract(*face.template.points[1::-1])[0] for face in (whole, side) if face.template]
    assert eyes[1] < 0.7 * eyes[0]  # where they are in the picture, not where they should be


def invert_points(result: FaceResult, points: Sequence[tuple[float, float]]) -> np.ndarray:
    """Points of a face's picture, as fractions of its side, in pixels of its photo."""
    back = invert_matrix(result.matrix)
    return np.array(points) * result.input.width @ back[:, :2].T + back[:, 2]


def test_reconstruction_without_an_age_is_the_closest_picture(transfer: AgeTransfer, hopper: Image.Image):
    (result,) = transfer.age_faces(hopper)
    distances = [np.square(pixels(face.image) - pixels(result.input)).sum() for face in result.aged]
    assert result.input_group == int(np.argmin(distances))


def test_psi_moves_faces_to_the_average(transfer: AgeTransfer, hopper: Image.Image):
    (none,) = transfer.age_faces(hopper, edit=Edit(psi=0.0))
    both = transfer.to_tensor([none.input, ImageOps.mirror(none.input)])
    rendered = transfer.render(both, "all", edit=Edit(psi=0.0))
    torch.testing.assert_close(*rendered.aged)  # the group's mean knows no face
    (full,) = transfer.age_faces(hopper)
    assert np.abs(pixels(full.aged[0].image) - pixels(none.aged[0].image)).max() > 0


def test_all_faces_or_the_largest(transfer: AgeTransfer, hopper: Image.Image):
    group = Image.new("RGB", (900, 620), "gray")
    group.paste(hopper.resize((256, 300)), (10, 100))
    group.paste(hopper, (350, 10))
    assert len(transfer.age_faces(group)) == 2
    (largest,) = transfer.age_faces(group, faces="largest")
    assert largest.box[0] > 350


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_a_transparent_photo_gives_the_same_face_however_it_is_opened(
    transfer: AgeTransfer, hopper: Image.Image, tmp_path: Path, suffix: str
):
    photo = hopper.convert("RGBA")
    photo.putalpha(Image.linear_gradient("L").resize(photo.size))
    path = tmp_path / f"clear.{suffix}"
    photo.save(path, lossless=True)
    opened = [open_photo(path), open_original(path).image, Image.open(path)]
    assert opened[1].mode == "RGBA"
    expected, *others = (transfer.age_faces(picture, ages=[30])[0].input for picture in opened)
    for other in others:
        np.testing.assert_array_equal(pixels(other), pixels(expected))
    expected, *others = transfer.to_tensor(opened)
    for other in others:
        assert torch.equal(other, expected)


def test_a_turned_photo_is_aged_and_pasted_upright(transfer: AgeTransfer, hopper: Image.Image, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by a quarter
    hopper.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    turned = Image.open(tmp_path / "turned.png")
    (expected,), (result,) = (transfer.age_faces(photo, ages=[30]) for photo in (hopper, turned))
    np.testing.assert_array_equal(pixels(result.input), pixels(expected.input))
    assert result.box == expected.box
    ((_, pasted),), ((_, whole),) = (paste_results(photo, [expected]) for photo in (turned, hopper))
    np.testing.assert_array_equal(pixels(pasted), pixels(whole))
    assert torch.equal(*transfer.to_tensor([hopper, turned]))


def test_no_face_no_result(transfer: AgeTransfer):
    assert transfer.age_faces(Image.new("RGB", (100, 100), "blue")) == []


def test_aligned_pictures_may_have_any_size_and_mode(transfer: AgeTransfer, hopper: Image.Image):
    square = hopper.crop((100, 50, 400, 350))
    faces = transfer.to_tensor([square, square.convert("L"), square.resize((16, 16), Image.Resampling.LANCZOS)])
    assert faces.shape == (3, 3, 16, 16)
    assert torch.equal(faces[0], faces[2])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"ages": [25, 81]}, "age 81 is outside this generator's groups, 0 to 80 years: 0-20, 21-40, 41-60, 71-80"),
        ({"ages": [float("nan")]}, "age nan"),
        ({"ages": [float("inf")]}, "age inf"),
        ({"edit": Edit(layers="9")}, "it has 6, 0 to 5"),
        ({"edit": Edit(hold=["sex"])}, "cannot hold the sex"),
        ({"ages": [-1]}, "age -1"),
        ({"ages": []}, "no ages given"),
        ({"ages": "old"}, "numbers of years"),
        ({"input_age": 200}, "age 200"),
        ({"input_age": [40, 8]}, "2 input ages for 1 face: "),
        ({"input_age": []}, "0 input age"),
        ({"faces": "both"}, "faces is 'all' or 'largest'"),
    ],
)
def test_impossible_requests(transfer: AgeTransfer, hopper: Image.Image, arguments: dict, reason: str):
    with pytest.raises(FacegenError, match=reason):
        transfer.age_faces(hopper, **arguments)


@pytest.mark.parametrize("ages", ["0-10,91-100", "0-10,60-"])
def test_ages_beyond_the_last_group(ages: str):
    groups = AgeGroups.parse(ages)
    oldest = {"0-10,91-100": 100, "0-10,60-": 122}[ages]
    assert wanted_ages([oldest, oldest + 0.5], groups)[0].group == 1
    assert_refused("in a list", wanted_ages, 5, groups)
    for age in (oldest + 1, 200, 1000):
        assert_refused(f"age {age} is outside this generator's groups, 0 to {oldest} years", wanted_ages, [age], groups)
    assert group_of(116, groups) == 1  # a face may be older than what can be shown
    assert_refused("age 300 is outside", group_of, 300, groups)


def test_every_face_of_a_group_photo_has_its_own_age(transfer: AgeTransfer, hopper: Image.Image):
    both = Image.new("RGB", (hopper.width * 2, hopper.height), "white")
    both.paste(hopper.resize((384, 450)), (560, 100))
    both.paste(hopper, (0, 0))
    assert_refused("1 input age for 2 faces", transfer.transfer, both, input_age=60)
    faces = transfer.age_faces(both, ages=[30], input_age=[60, 8])
    assert [face.input_age for face in faces] == [60, 8]
    assert faces[0].box[0] < faces[1].box[0]  # the larger one is the first
    assert transfer.age_faces(both, ages=[30], input_age=60, faces="largest")[0].input_age == 60


def test_faces_of_a_black_and_white_photo_get_no_color(transfer: AgeTransfer, hopper: Image.Image):
    gray = hopper.convert("L")
    scan = Image.merge("RGB", [gray, gray.point(lambda level: level * 0.99), gray])  # JPEG leaves faint colors
    for photo in (gray, scan):
        (face,) = transfer.age_faces(photo, ages=[5, 75])
        for picture in (face.reconstruction, *(aged.image for aged in face.aged)):
            assert picture.mode == "RGB"
            assert np.ptp(pixels(picture), axis=2).max() == 0
    (face,) = transfer.age_faces(hopper, ages=[5])
    assert np.ptp(pixels(face.aged[0].image), axis=2).mean() > 2


def test_a_photo_may_be_a_path(transfer: AgeTransfer, hopper: Image.Image, tmp_path: Path):
    hopper.save(tmp_path / "photo.png")
    (expected,) = transfer.age_faces(hopper, ages=[30])
    for path in (tmp_path / "photo.png", str(tmp_path / "photo.png")):
        (face,) = transfer.age_faces(path, ages=[30])
        np.testing.assert_array_equal(pixels(face.aged[0].image), pixels(expected.aged[0].image))


@pytest.mark.parametrize("call", ["transfer", "find_faces", "align", "to_tensor"])
def test_what_is_no_picture_is_refused(transfer: AgeTransfer, hopper: Image.Image, call: str):
    array = np.asarray(hopper)
    calls = {
        "transfer": lambda: transfer.transfer(array),
        "find_faces": lambda: find_faces(array),
        "align": lambda: align_face(array, np.zeros([5, 2]), UTKFACE_TEMPLATE, 16),
        "to_tensor": lambda: transfer.to_tensor([array]),
    }
    assert "Image.fromarray" in assert_refused("not ndarray", calls[call])


def test_refinement_under_inference_mode(networks: Networks, transfer: AgeTransfer, hopper: Image.Image):
    """As web services use it: with the networks made inside of it or before."""

    def refined(transfer: AgeTransfer) -> np.ndarray:
        return pixels(transfer.age_faces(hopper, ages=[30], edit=Edit(refine=2))[0].aged[0].image)

    files = networks.generator_path, networks.encoder_path
    expected = refined(AgeTransfer.from_files(*files, device="cpu"))
    with torch.inference_mode():
        assert refined(transfer).shape == expected.shape
        inside = AgeTransfer.from_files(*files, device="cpu")
        np.testing.assert_array_equal(refined(inside), expected)
    np.testing.assert_array_equal(refined(inside), expected)


def test_networks_must_belong_together(networks: Networks):
    assert_refused("4 classes, but there are 10 age groups", AgeTransfer, networks.generator, networks.encoder)
    assert_refused("no age groups", AgeTransfer, small_generator(0), networks.encoder)
    assert_refused("do not belong together", AgeTransfer, small_generator(4, z_dim=9), networks.encoder, groups=GROUPS)


def test_from_files_takes_groups_and_template_from_the_generator(networks: Networks):
    transfer = AgeTransfer.from_files(networks.generator_path, networks.encoder_path, device="cpu")
    assert transfer.groups == GROUPS
    assert transfer.template == AlignmentTemplate(((0.2, 0.3), (0.8, 0.3), (0.5, 0.5), (0.3, 0.7), (0.7, 0.7)))
    assert transfer.size == 16


def test_from_files_says_when_the_shipped_weights_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(locate, "PRETRAINED", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"encoder\.safetensors.*--encoder FILE"):
        AgeTransfer.from_files()
    with pytest.raises(FileNotFoundError, match=r"missing\.safetensors"):
        AgeTransfer.from_files(encoder="missing.safetensors")


def test_save_results_writes_every_picture_and_a_strip(transfer: AgeTransfer, hopper: Image.Image, tmp_path: Path):
    paths = save_results(transfer.age_faces(hopper, ages=[5, 75]), tmp_path / "out", "me")
    assert [path.name for path in paths] == ["me-face1-age5.png", "me-face1-age75.png", "me-face1-strip.png"]
    assert sorted(paths) == sorted((tmp_path / "out").iterdir())


class Oracle(torch.nn.Module):
    """An age estimator that says 37."""

    def predict(self, images: torch.Tensor) -> torch.Tensor:
        return torch.full([len(images)], 37.0)


def test_render_shapes_and_devices(transfer: AgeTransfer):
    faces = torch.rand(3, 3, 16, 16) * 2 - 1
    rendered = transfer.render(faces, [5, 50.5], input_ages=[10, 30, 50])
    assert rendered.reconstructions.shape == faces.shape
    assert rendered.aged.shape == (3, 2, 3, 16, 16)
    assert rendered.input_ages.tolist() == [10, 30, 50]
    alone = transfer.render(faces[1:2], [50.5], input_ages=[30])
    torch.testing.assert_close(alone.aged[0, 0], rendered.aged[1, 1])
    assert not rendered.aged.requires_grad


@pytest.mark.parametrize("target", ["w", "w+"])
def test_an_encoder_of_w_shifts(networks: Networks, target: str):
    transfer = AgeTransfer(networks.generator, small_encoder(target=target), groups=GROUPS, device="cpu")
    faces = torch.rand(2, 3, 16, 16) * 2 - 1
    rendered = transfer.render(faces, [10, 75], input_ages=[10, 30])
    ws = transfer.encoder(faces)
    draw = networks.generator.synthesis
    torch.testing.assert_close(rendered.reconstructions, draw(ws, noise_mode="const"))
    torch.testing.assert_close(rendered.aged[0, 0], rendered.reconstructions[0])  # at its own age nothing changes
    means = group_means(networks.generator)
    older = draw(ws[1:] + means[3] - means[1], noise_mode="const")
    torch.testing.assert_close(rendered.aged[1, 1], older[0])


def test_the_encoders_own_shift_is_used(networks: Networks, tmp_path: Path):
    shift = AgeShift(4, 6, 8, [10, 30, 50, 75])
    torch.nn.init.normal_(shift.table)
    path = tmp_path / "e.safetensors"
    save_networks(path, {"encoder": small_encoder(target="w+"), "age_shift": shift}, {"groups": GROUPS.labels})
    transfer = AgeTransfer.from_files(networks.generator_path, path, device="cpu")
    torch.testing.assert_close(transfer.latent_ages.shift.table, shift.table)


def test_an_encoder_of_w_must_know_the_age(networks: Networks, hopper: Image.Image):
    encoder = small_encoder(target="w")
    blind = AgeTransfer(networks.generator, encoder, groups=GROUPS, device="cpu")
    assert_refused("--input-age YEARS, or --age-estimator FILE", blind.transfer, hopper)
    with pytest.raises(FacegenError, match="method swap needs an encoder that predicts z"):
        blind.age_faces(hopper, input_age=70, edit=Edit(method="swap"))
    seeing = AgeTransfer(
        networks.generator, small_encoder(target="w"), groups=GROUPS, age_estimator=Oracle(), device="cpu"
    )
    (result,) = seeing.age_faces(hopper)
    assert (result.input_age, result.input_group) == (37, 1)
    (told,) = seeing.age_faces(hopper, input_age=70)
    assert told.input_age == 70


def test_decode_moves_a_latent(networks: Networks, transfer: AgeTransfer, hopper: Image.Image):
    (result,) = transfer.age_faces(hopper, input_age=77)
    pictures = transfer.decode(torch.from_numpy(result.latent), [10, 30, 50, 75])
    for picture, face in zip(pictures, result.aged, strict=True):
        np.testing.assert_allclose(pixels(picture), pixels(face.image), atol=1)
    with pytest.raises(FacegenError, match="give input_age, the age to start from"):
        transfer.decode(torch.from_numpy(result.latent), [30], edit=Edit(method="shift"))


@pytest.mark.parametrize(
    ("faces", "ages", "input_ages", "reason"),
    [
        (torch.zeros(1, 3, 16, 32), [30], None, r"faces are \[N, 3, 16, 16\]"),
        (torch.zeros(0, 3, 16, 16), [30], None, "at least one"),
        (torch.zeros(2, 3, 16, 16), [30], [30], "1 input ages for 2 faces"),
        (torch.zeros(1, 3, 16, 16), [], None, "no ages given"),
        (torch.zeros(1, 3, 16, 16), [30], [99], "age 99"),
    ],
)
def test_impossible_renderings(transfer: AgeTransfer, faces: torch.Tensor, ages: list, input_ages, reason: str):
    with pytest.raises(FacegenError, match=reason):
        transfer.render(faces, ages, input_ages=input_ages)


@pytest.mark.parametrize(
    ("target", "num_ws", "w_dim", "reason"),
    [
        ("w", 6, 9, r"generator \(w of 6 x 8\) and encoder \(w of 6 x 9\)"),
        ("w+", 5, 8, r"encoder \(w of 5 x 8\)"),
    ],
)
def test_networks_of_other_sizes(networks: Networks, target: str, num_ws: int, w_dim: int, reason: str):
    with pytest.raises(FacegenError, match=reason):
        AgeTransfer(networks.generator, small_encoder(w_dim, target, num_ws), groups=GROUPS)


def test_an_age_shift_of_another_size(networks: Networks):
    with pytest.raises(FacegenError, match="and age shift"):
        AgeTransfer(
            networks.generator, small_encoder(target="w"), groups=GROUPS, age_shift=AgeShift(3, 6, 8, [1, 2, 3])
        )


def test_shipped_weights_age_a_real_face_smoothly(hopper: Image.Image):
    """The real thing: the years follow one another without a jump, and the young is not the old."""
    if not (locate.PRETRAINED / "generator.safetensors").is_file():
        pytest.skip("this copy of facegen comes without weights")
    transfer = AgeTransfer.from_files(device="cpu")
    (result,) = transfer.age_faces(hopper, ages=list(range(5, 91, 5)), input_age=77)
    pictures = np.stack([pixels(face.image) for face in result.aged])
    steps = np.sqrt(np.square(np.diff(pictures, axis=0)).mean(axis=(1, 2, 3)))
    # From a child to a young adult a face does change more than later (3.7 times the median step of two years,
    # measured); a jump from group to group would leave half of the steps empty.
    assert steps.max() < 6 * np.median(steps)
    assert steps.min() > 0.1 * np.median(steps)
    assert np.sqrt(np.square(pictures[0] - pictures[-1]).mean()) > steps.max()


def test_an_age_twice_is_one_picture(transfer: AgeTransfer, hopper: Image.Image, tmp_path: Path):
    (result,) = transfer.age_faces(hopper, ages=[25, 25.0, 30.5], faces="largest")
    assert [face.caption for face in result.aged] == ["age 25", "age 30.5"]


@pytest.mark.parametrize(
    ("ages", "input_age", "reason"),
    [
        ([], 30, "no ages"),
        ([30], 5000, "5000"),
        ([float("inf")], 30, "number of years"),
        ([30], float("nan"), "number"),
    ],
)
def test_decode_refuses_what_transfer_refuses(transfer: AgeTransfer, ages: list, input_age: float, reason: str):
    with pytest.raises(FacegenError, match=reason):
        transfer.decode(torch.zeros(transfer.encoder.z_dim), ages, input_age=input_age)


def test_the_default_type_of_torch_makes_no_difference(networks: Networks, hopper: Image.Image):
    """Faces are found, encoded, refined, drawn and pasted as with torch's own."""

    def pasted() -> np.ndarray:
        transfer = AgeTransfer.from_files(networks.generator_path, networks.encoder_path, device="cpu")
        results = transfer.age_faces(hopper, ages=[30], input_age=60, edit=Edit(refine=2))
        ((_, photo),) = paste_results(hopper, results, template=transfer.template)
        return pixels(photo)

    expected = pasted()
    torch.set_default_dtype(torch.float64)
    get_detector.cache_clear()  # it is built anew, as in a program that sets the type first
    try:
        np.testing.assert_allclose(pasted(), expected, atol=1)
    finally:
        torch.set_default_dtype(torch.float32)
        get_detector.cache_clear()


def test_transfer_gives_the_photos_first_and_the_faces_second(transfer: AgeTransfer, hopper: Image.Image):
    photos, faces = transfer.transfer(hopper, ages=[5, 75])
    assert [photo.size for photo in photos] == [hopper.size] * 2
    assert [face.age for face in faces[0].aged] == [5, 75]
    assert not np.array_equal(np.asarray(photos[0]), np.asarray(photos[1]))
    corner = (slice(0, 20), slice(0, 20))
    assert np.array_equal(np.asarray(photos[0])[corner], np.asarray(hopper)[corner])


def test_transfer_gives_nothing_without_a_face(transfer: AgeTransfer):
    assert transfer.transfer(Image.new("RGB", (100, 100), "blue")) == ([], [])


@pytest.mark.parametrize(("mode", "result"), [("P", "RGBA"), ("I;16", "L"), ("1", "L"), ("CMYK", "RGB")])
def test_a_picture_in_memory_gives_photos_as_its_file_does(
    transfer: AgeTransfer, hopper: Image.Image, tmp_path: Path, mode: str, result: str
):
    small = hopper.resize((256, 300))
    photo = (
        Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257)
        if mode == "I;16"
        else small.convert(mode)
    )
    if mode == "P":
        photo.info["transparency"] = 3
    path = tmp_path / ("me.png" if mode == "P" else "me.tif")
    photo.save(path)
    of_picture, of_file = (transfer.transfer(source, ages=[75]).photos[0] for source in (photo, path))
    assert of_picture.mode == of_file.mode == result
    assert of_picture.tobytes() == of_file.tobytes()


def test_faces_of_many_photos_are_drawn_at_once_and_the_same(transfer: AgeTransfer, hopper: Image.Image):
    small = hopper.resize((hopper.width // 2, hopper.height // 2))
    empty = Image.new("RGB", (100, 100), "blue")
    photos = [hopper, empty, small]
    together = transfer.age_found(photos, find_faces_batch(photos), ages=[5, 75])
    assert [len(results) for results in together] == [1, 0, 1]
    for results, photo in zip(together, photos, strict=True):
        for result, alone in zip(results, transfer.age_faces(photo, ages=[5, 75]), strict=True):
            assert result.input_age == alone.input_age
            for one, other in zip(result.aged, alone.aged, strict=True):
                # Batches of another size sum in another order.
                difference = np.asarray(one.image).astype(int) - np.asarray(other.image)
                assert np.abs(difference).max() <= 2
