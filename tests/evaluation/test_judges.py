from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from PIL import Image

from facegen.errors import FacegenError
from facegen.evaluation import judges as judges_module
from facegen.evaluation.judges import (
    DLIB_SIZE,
    DLIB_TEMPLATE,
    INSTALL_DLIB,
    dlib_weights,
    load_age_judge,
    load_identity_judge,
    load_sex_judge,
    place,
)
from facegen.faces.align import align_face
from facegen.faces.find import find_faces
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.metrics.features import Extractor
from facegen.networks.age_estimator import AgeEstimator
from facegen.weights.facenet import VGGFACE2_URL, load_facenet
from facegen.weights.native import save_networks

needs_dlib = pytest.mark.skipif(dlib_weights() is None, reason=f"dlib's network is not here: {INSTALL_DLIB}")


def as_tensor(*images: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2)


@pytest.fixture(scope="module")
def aligned(hopper: Image.Image) -> Image.Image:
    return align_face(hopper, find_faces(hopper)[0], UTKFACE_TEMPLATE, 128)


def test_place_moves_landmarks_to_where_they_belong():
    image = np.zeros([3, 100, 100], np.uint8)
    for x, y in UTKFACE_TEMPLATE.points:
        image[:, round(100 * y) - 2 : round(100 * y) + 3, round(100 * x) - 2 : round(100 * x) + 3] = 255
    (chip,) = place(torch.from_numpy(image[None]), UTKFACE_TEMPLATE, DLIB_TEMPLATE, DLIB_SIZE)
    pixels = chip[..., 0]
    for x, y in DLIB_TEMPLATE.points:
        assert pixels[round(DLIB_SIZE * y), round(DLIB_SIZE * x)] > 128


@needs_dlib
def test_placement_agrees_with_dlibs_own_chip(hopper: Image.Image, aligned: Image.Image):
    """dlib's way from its own detector and landmarks gives nearly the features of ours."""
    import dlib

    own_way = dlib.get_frontal_face_detector()
    shape = dlib.shape_predictor(str(dlib_weights().with_name("shape_predictor_5_face_landmarks.dat")))
    network = dlib.face_recognition_model_v1(str(dlib_weights()))
    photo = np.asarray(hopper)
    (box,) = own_way(photo, 0)
    theirs = np.array(network.compute_face_descriptor(photo, shape(photo, box), 0, 0.25))
    ours = load_identity_judge("dlib", UTKFACE_TEMPLATE).features(as_tensor(aligned))[0].numpy()
    assert np.linalg.norm(ours) == pytest.approx(1, abs=1e-5)
    # Different people have 0.83 on average; 144 faces had 0.992 or more in 95 of 100 cases.
    assert ours @ theirs / np.linalg.norm(theirs) > 0.985


@needs_dlib
def test_dlib_is_taken_by_default_and_knows_a_face_again(aligned: Image.Image):
    judge = load_identity_judge(None, UTKFACE_TEMPLATE)
    assert judge.name.startswith("dlib-")
    small = aligned.resize((64, 64), Image.Resampling.LANCZOS)
    features = torch.cat([judge.features(as_tensor(aligned)), judge.features(as_tensor(small))])
    assert features[0] @ features[1] > 0.985


def test_without_dlib_one_line_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judges_module, "dlib_weights", lambda: None)
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    with pytest.raises(FacegenError, match=r"facegen\[evaluate\]") as caught:
        load_identity_judge("dlib", UTKFACE_TEMPLATE)
    with pytest.raises(FacegenError, match="--id-judge FILE") as caught:
        load_identity_judge(None, UTKFACE_TEMPLATE)
    assert VGGFACE2_URL in str(caught.value)
    assert "facegen[evaluate]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_of_facenet_pytorch_judges(tmp_path: Path, aligned: Image.Image):
    network = InceptionResnetV1().eval()
    # Its files hold the classes that it was trained with, which nobody needs.
    torch.save({**network.state_dict(), "logits.weight": torch.zeros(3, 512)}, tmp_path / "net.pt")
    judge = load_identity_judge(tmp_path / "net.pt", UTKFACE_TEMPLATE)
    found = judge.features(as_tensor(aligned, aligned))
    assert found.shape == (2, 512)
    torch.testing.assert_close(found.norm(dim=1), torch.ones(2))
    assert judge.name.startswith("facenet-")


def test_wrong_files_are_one_line(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="--id-judge is dlib, vggface2 or a file"):
        load_identity_judge(tmp_path / "none.pt", UTKFACE_TEMPLATE)
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(FacegenError, match="not the weights of facenet-pytorch"):
        load_facenet(tmp_path / "other.pt")
    for name in ("text.safetensors", "text.pt"):
        (tmp_path / name).write_text("nothing")
        with pytest.raises(FacegenError, match=name):
            load_facenet(tmp_path / name)


def test_age_judge(tmp_path: Path, aligned: Image.Image, monkeypatch: pytest.MonkeyPatch):
    estimator = AgeEstimator(widths=(8, 8), depths=(1, 1), input_size=16)
    save_networks(tmp_path / "age.safetensors", {"age": estimator}, {})
    judge = load_age_judge(tmp_path / "age.safetensors")
    images = as_tensor(*[aligned] * 40)
    with torch.no_grad():
        expected = estimator.eval().predict(images.float() / 127.5 - 1).double().numpy()
    np.testing.assert_allclose(judge.predict(images), expected, rtol=1e-5)
    assert judge.name.startswith("age.safetensors (")
    monkeypatch.setattr("facegen.weights.locate.PRETRAINED", tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="--age-judge FILE"):
        load_age_judge()


def test_the_sex_is_judged_by_features_where_dlib_judges_identity(hopper: Image.Image, aligned: Image.Image):
    of_dlib = load_sex_judge(Extractor("dlib-20", torch.nn.Identity()))
    assert of_dlib.takes_features
    weight = torch.nn.functional.normalize(torch.randn(5, 128))
    found = of_dlib.men(weight)
    assert found.shape == (5,)
    assert ((found > 0) & (found < 1)).all()
    alone = load_sex_judge(None)
    assert not alone.takes_features
    assert alone.men(as_tensor(aligned, aligned)).shape == (2,)
    assert of_dlib.name != alone.name


@needs_dlib
def test_dlibs_features_tell_a_woman(aligned: Image.Image):
    identity = load_identity_judge("dlib", UTKFACE_TEMPLATE)
    judge = load_sex_judge(identity)
    # Grace Hopper: her cap makes her a man to the classifier by which aging holds the sex.
    found = judge.men(identity.features(as_tensor(aligned)))
    assert found[0] < 0.7 < load_sex_judge(None).men(as_tensor(aligned))[0]
