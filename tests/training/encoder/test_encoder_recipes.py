"""Encoders of every recipe, on a tiny generator and a few real faces."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from helpers import small_estimator, small_generator
from refusals import assert_refused
from trainings import SHALLOW, assert_same, interrupted_at

from facegen.ages import AgeGroups
from facegen.errors import FacegenError
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.networks.sex_classifier import SexClassifier
from facegen.training.encoder import loop
from facegen.training.encoder.identity_loss import IdentityLoss
from facegen.training.encoder.loop import train_encoder
from facegen.training.encoder.objective import EncoderObjective, Faces
from facegen.training.encoder.options import EncoderOptions
from facegen.training.encoder.real_faces import load_real_faces
from facegen.training.encoder.recipes import RECIPES, Recipe, get_recipe
from facegen.training.encoder.sex_direction import sex_direction
from facegen.training.run.folder import read_stats
from facegen.weights.face_network import FaceNetwork
from facegen.weights.facenet import FACENET_SIZE, FACENET_TEMPLATE
from facegen.weights.native import load_networks, save_networks

GROUPS = ["0-20", "21-60", "61+"]
MIDDLES = [10.0, 40.0, 71.0]


def small_objective(recipe: Recipe) -> EncoderObjective:
    generator = small_generator(3, z_dim=4)
    width = generator.z_dim if recipe.target == "z" else generator.w_dim
    encoder = Encoder(width, 16, 75, (0, 0, 0), target=recipe.target, num_ws=generator.num_ws)
    facenet = FaceNetwork(InceptionResnetV1(), FACENET_TEMPLATE, FACENET_SIZE)
    identity = IdentityLoss(facenet, UTKFACE_TEMPLATE, 16) if recipe.identity else None
    sex_classifier = SexClassifier()
    return EncoderObjective(encoder, generator, recipe, MIDDLES, small_estimator(), identity, 1.0, sex_classifier)


def some_faces(generator: Generator, generated: int, real: int) -> Faces:
    random = torch.Generator().manual_seed(1)
    z = torch.randn(generated, generator.z_dim, generator=random)
    classes = torch.arange(generated) % generator.c_dim
    images = torch.rand(generated + real, 3, 16, 16, generator=random) * 2 - 1
    other_z = torch.randn(generated + real, generator.z_dim, generator=random)
    return Faces(images, torch.linspace(5, 80, generated + real), z, classes, other_z)


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory, face_archive: Path) -> EncoderOptions:
    folder = tmp_path_factory.mktemp("networks")
    save_networks(folder / "tiny.safetensors", {"G_ema": small_generator(3, z_dim=4)}, {"groups": GROUPS})
    save_networks(folder / "age.safetensors", {"age": small_estimator()}, {})
    files = {"data": str(face_archive), "age_estimator": str(folder / "age.safetensors")}
    return EncoderOptions(str(folder / "tiny.safetensors"), pairs=10, batch=4, **files, **SHALLOW)


@pytest.mark.parametrize("name", RECIPES)
def test_every_loss_of_a_recipe_reaches_the_encoder(name: str):
    recipe = get_recipe(name)
    objective = small_objective(recipe)
    losses = objective(some_faces(objective.generator, 4, 2), torch.full([6], 50.0))
    expected = {key for key, value in vars(recipe).items() if key not in ("target", "real", "tune") and value}
    assert expected <= losses.keys()
    total = sum(getattr(recipe, key) * float(losses[key].detach()) for key in expected)
    assert float(losses["loss"].detach()) == pytest.approx(total, rel=1e-5)
    for key in expected - {"age", "home", "keep", "sex", "anchor"}:  # those are for the age groups and the generator
        (slope,) = torch.autograd.grad(losses[key], objective.encoder.head.weight, retain_graph=True)
        assert slope.abs().sum() > 0, key
    losses["loss"].backward()
    assert objective.encoder.head.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in objective.generator.mapping.parameters())
    tuned = [parameter.grad is not None for parameter in objective.generator.synthesis.parameters()]
    assert any(tuned) == (name == "tune")
    table = None if objective.shift is None else objective.shift.table.grad
    assert (table is not None) == (name in ("age", "identity", "tune"))  # only these move the age groups


def test_the_error_of_the_mean_is_one():
    # An untrained encoder answers with the mean of w, all but for the head's tiny random weights.
    objective = small_objective(get_recipe("w"))
    faces = some_faces(objective.generator, 600, 0)
    faces.images = faces.images[:1].expand(600, -1, -1, -1)
    with torch.no_grad():
        ws = objective.generator.mapping(faces.z, torch.eye(3)[faces.classes])
        error = (objective.encoder.w_mean - ws).square() / objective.w_variance
    # 600 random faces: the mean of squares has a standard deviation of a few percent.
    assert float(error.mean()) == pytest.approx(1, abs=0.15)


def test_the_cosine_recipe_says_how_sure_it_is():
    # Where nothing can be known, the best answer is of length 0; where all is known, of length 1.
    recipe = get_recipe("zcos")
    objective = small_objective(recipe)
    faces = some_faces(objective.generator, 4, 0)
    perfect = objective._of_latents(faces.z / faces.z.square().mean(dim=1, keepdim=True).sqrt(), faces)
    assert float(perfect["cosine"]) == pytest.approx(0, abs=1e-5)
    wrong = objective._of_latents(-faces.z, faces)["cosine"]
    assert float(objective._of_latents(-faces.z * 0.01, faces)["cosine"]) < float(wrong)


def test_recipes_without_sense_are_refused():
    with pytest.raises(FacegenError, match=r"unknown recipe 'best'.*zmse"):
        get_recipe("best")
    assert_refused("target w or w+", Recipe, "z", pixels=1)
    assert_refused("target z", Recipe, "w", cosine=1)


def test_the_generator_does_not_learn_to_feign_age():
    objective = small_objective(Recipe("w+", age=1, tune=1))
    losses = objective(some_faces(objective.generator, 4, 2), torch.full([6], 50.0))
    losses["age"].backward()
    assert objective.shift.table.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in objective.generator.parameters())


def test_only_the_age_groups_learn_to_keep_the_sex():
    objective = small_objective(Recipe("w+", age=1, sex=1))
    faces = some_faces(objective.generator, 4, 2)
    losses = objective(faces, torch.full([6], 50.0))
    assert losses["sex"] > 0
    losses["sex"].backward()
    assert objective.shift.table.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in objective.encoder.parameters())
    assert all(parameter.grad is None for parameter in objective.sex_classifier.parameters())
    assert float(objective(faces, faces.ages)["sex"].detach()) == pytest.approx(
        0, abs=1e-6
    )  # nobody ages, so nobody's sex changes


def test_faces_are_aged_in_training_as_they_will_be():
    objective = small_objective(Recipe("w+", age=1, keep=1, sex=1))
    normal, direction = torch.eye(8)[0], torch.linspace(1, 2, 8)
    objective.shift = objective.shift.holding("sex", normal, direction)
    losses = objective(some_faces(objective.generator, 4, 2), torch.full([6], 50.0))
    (slope,) = torch.autograd.grad(losses["loss"], objective.shift.table)
    along = (slope @ direction).abs().max()  # what is held makes no difference, so it is not learned
    assert along < 1e-4 * slope.norm(dim=-1).max() * direction.norm()


def test_the_weight_of_the_loss_sex():
    options = EncoderOptions("g", recipe="age", data="faces.zip")
    assert options.chosen_recipe() == get_recipe("age")
    assert get_recipe("age").sex > 0
    assert replace(options, sex_weight=0.7).chosen_recipe().sex == 0.7
    assert EncoderOptions.from_json(options.to_json()) == options
    earlier = {name: value for name, value in options.to_json().items() if name != "sex_weight"}
    assert EncoderOptions.from_json(earlier).chosen_recipe().sex == 0  # that run began without
    assert_refused("does not use --sex-weight", replace, options, recipe="near", sex_weight=0.7)
    assert replace(options, recipe="near", sex_weight=0).chosen_recipe() == get_recipe("near")


def test_encoder_and_latent_discriminator_learn_from_their_own_loss_alone():
    objective = small_objective(get_recipe("adversarial"))
    helper = objective.latent_discriminator
    losses = objective(some_faces(objective.generator, 4, 2), torch.full([6], 50.0))
    losses["adversarial"].backward(retain_graph=True)
    assert objective.encoder.head.weight.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in helper.parameters())
    objective.encoder.zero_grad()
    losses["latent_discriminator"].backward()
    assert all(parameter.grad is None for parameter in objective.encoder.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in helper.parameters() if parameter.ndim > 1)


def test_the_latent_discriminator_tells_far_from_near_and_pulls_the_encoder_home():
    objective = small_objective(get_recipe("adversarial"))
    helper = objective.latent_discriminator
    learn = objective.optimizer(0.003)
    mapped = objective._mapped(some_faces(objective.generator, 200, 0))
    far = mapped + 3 * objective.w_variance.sqrt()
    first = float(helper.own_loss(far, mapped).detach())
    for _ in range(100):
        learn.zero_grad()
        helper.own_loss(far, mapped).backward()
        learn.step()
    assert float(helper.own_loss(far, mapped).detach()) < 0.7 * first  # of 2 ln 2, where it knows nothing
    assert helper(mapped).mean() > helper(far).mean()
    far = far.requires_grad_()
    (slope,) = torch.autograd.grad(helper.encoder_loss(far), far)
    assert float((slope * (far - mapped)).sum()) > 0  # the loss falls on the way back


def test_the_recipe_identity_takes_a_file_of_facenet_pytorch(options: EncoderOptions, tmp_path: Path):
    torch.save(InceptionResnetV1().state_dict(), tmp_path / "net.pt")
    chosen = replace(options, recipe="identity", face_network=str(tmp_path / "net.pt"), epochs=1)
    run = train_encoder(chosen, tmp_path / "runs", device="cpu", progress=False)
    assert 0 < read_stats(run)[-1]["val_identity"] < 2
    networks, header = load_networks(run / "encoder-best.safetensors")
    assert set(networks) == {"encoder", "age_shift"}
    assert header["training_options"]["face_network"] == "net.pt"  # no path of this machine


def test_without_face_recognition_weights_one_line_says_what_to_give(
    options: EncoderOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FACEGEN_OFFLINE", "1")
    monkeypatch.setenv("FACEGEN_CACHE", str(tmp_path / "cache"))
    with pytest.raises(FacegenError, match=r"vggface2.pt.*--face-network FILE") as caught:
        train_encoder(replace(options, recipe="identity"), tmp_path / "runs", device="cpu", progress=False)
    assert "\n" not in str(caught.value)


def test_weights_of_losses_can_be_chosen():
    options = EncoderOptions(generator="g", data="faces", recipe="identity")
    assert options.chosen_recipe() == RECIPES["identity"]
    assert replace(options, perceptual_weight=0.0).chosen_recipe() == replace(RECIPES["identity"], perceptual=0)
    tuned = replace(options, recipe="tune")
    assert tuned.chosen_recipe().identity == 0  # needs no download
    assert replace(tuned, face_network="net.pt").chosen_recipe().identity == RECIPES["identity"].identity


@pytest.mark.parametrize("name", ["age", "adversarial", "tune"])
def test_groups_of_learning_rates_keep_the_order_of_parameters(name: str):
    # State files number the parameters in this order, those of versions with fewer groups, too.
    objective = small_objective(RECIPES[name])
    groups = objective.optimizer(1e-3).param_groups
    flat = [parameter for group in groups for parameter in group["params"]]
    assert [id(p) for p in flat] == [id(p) for p in objective.parameters_to_train()]
    shares = {id(p): group["share"] for group in groups for p in group["params"]}
    if name != "adversarial":
        assert shares[id(objective.shift.table)] > shares[id(objective.encoder.head.weight)]


def test_in_training_one_face_in_four_is_aged():
    objective = small_objective(RECIPES["age"])
    faces, targets = some_faces(objective.generator, 4, 5), torch.linspace(10, 80, 9)
    objective.train()
    first = objective(faces, targets)
    others = targets + 30 * (torch.arange(9) % 4 > 0)  # of faces that are not aged
    assert objective(faces, others)["age"] == first["age"]
    objective.eval()
    assert objective(faces, others)["age"] != objective(faces, targets)["age"]


def test_a_tuned_generator_is_saved_with_its_encoder(options: EncoderOptions, tmp_path: Path):
    first = train_encoder(replace(options, epochs=1), tmp_path, device="cpu", progress=False)
    init = str(first / "encoder-best.safetensors")
    run = train_encoder(replace(options, recipe="tune", init=init, epochs=1), tmp_path, device="cpu", progress=False)
    networks, _ = load_networks(run / "encoder-best.safetensors")
    assert set(networks) == {"encoder", "age_shift", "G_ema"}
    before = load_networks(options.generator)[0]["G_ema"]
    assert torch.equal(networks["G_ema"].mapping.fc0.weight, before.mapping.fc0.weight)
    assert not torch.equal(networks["G_ema"].synthesis.b16.torgb.weight, before.synthesis.b16.torgb.weight)


@pytest.mark.parametrize("recipe", ["age", "adversarial", "tune"])
def test_a_run_with_real_faces_and_helpers_resumes_exactly(options: EncoderOptions, tmp_path: Path, recipe: str):
    # The pairs are those of the generator as it was: made anew by a tuned one, they would be others.
    options = replace(options, recipe=recipe)
    whole = train_encoder(options, tmp_path / "whole", device="cpu", progress=False)
    assert whole.name == f"00000-encoder-{recipe}-tiny-10pairs"
    assert "19 real faces to train on, 1 to validate" in (whole / "log.txt").read_text()
    assert {"val_pixels", "val_features"} <= read_stats(whole)[-1].keys()
    assert ({"val_age", "val_near", "val_keep"} <= read_stats(whole)[-1].keys()) == (recipe != "adversarial")
    with interrupted_at(3):
        run = train_encoder(options, tmp_path / "stopped", device="cpu", progress=False)
    train_encoder(options, resume=run, device="cpu", progress=False)
    expected, resumed = (torch.load(folder / "encoder-state.pt", weights_only=True) for folder in (whole, run))
    assert ("latent_discriminator" in expected) == (recipe == "adversarial")
    assert_same(resumed, expected)
    networks, header = load_networks(run / "encoder-best.safetensors")
    assert set(networks) == {"encoder", "age_shift"} | ({"G_ema"} if recipe == "tune" else set())  # no helpers
    assert header["training_options"]["data"] == "faces.zip"  # no path of this machine


class Brightness(SexClassifier):
    """Takes the brighter half of a tiny generator's faces for men's."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        men = 10 * images.mean(dim=(1, 2, 3))
        return torch.stack([-men, men], dim=1)


@pytest.fixture
def of_faces(options: EncoderOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderOptions:
    """Options of a run whose generator makes faces that the sex classifier can judge."""
    generator = load_networks(options.generator)[0]["G_ema"]
    header = {"groups": GROUPS, "template": UTKFACE_TEMPLATE.to_json()}
    save_networks(tmp_path / "faces.safetensors", {"G_ema": generator}, header)
    monkeypatch.setattr(loop, "load_sex_classifier", lambda _: (Brightness(), None))
    monkeypatch.setattr("facegen.training.encoder.sex_direction.FACES", 40)
    return replace(options, generator=str(tmp_path / "faces.safetensors"))


def test_a_new_encoder_can_hold_the_sex_and_its_run_resumes_exactly(of_faces: EncoderOptions, tmp_path: Path):
    whole = train_encoder(of_faces, tmp_path / "whole", device="cpu", progress=False)
    shift = load_networks(whole / "encoder-best.safetensors")[0]["age_shift"]
    generator = load_networks(of_faces.generator)[0]["G_ema"]
    normal, direction = sex_direction(generator, Brightness())
    assert shift.holds == ["sex"]
    assert torch.equal(shift.normals[0], normal)
    assert torch.equal(shift.directions[0], direction)
    assert read_stats(whole)[-1]["val_sex"] > 0
    with interrupted_at(3):
        run = train_encoder(of_faces, tmp_path / "stopped", device="cpu", progress=False)
    train_encoder(of_faces, resume=run, device="cpu", progress=False)
    assert_same(*(torch.load(folder / "encoder-state.pt", weights_only=True) for folder in (run, whole)))


def test_a_run_that_began_without_holding_goes_on_without(of_faces: EncoderOptions, tmp_path: Path):
    run = train_encoder(replace(of_faces, epochs=1), tmp_path / "runs", device="cpu", progress=False)
    state = torch.load(run / "encoder-state.pt", weights_only=True)
    for shift in (state["age_shift"], state["average"]["age_shift"]):
        del shift["normals"], shift["directions"]
    torch.save(state, run / "encoder-state.pt")
    train_encoder(of_faces, resume=run, device="cpu", progress=False)
    assert load_networks(run / "encoder-best.safetensors")[0]["age_shift"].holds == []


def test_what_cannot_be_judged_is_not_held(
    of_faces: EncoderOptions, options: EncoderOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def logged(chosen: EncoderOptions) -> str:
        run = train_encoder(replace(chosen, recipe="w", epochs=1), tmp_path / "runs", device="cpu", progress=False)
        assert load_networks(run / "encoder-best.safetensors")[0]["age_shift"].holds == []
        (line,) = (x for x in (run / "log.txt").read_text(encoding="utf-8").splitlines() if "hold the sex" in x)
        return line

    assert "aligned" in logged(options)
    gray = tmp_path / "gray.safetensors"
    header = {"groups": GROUPS, "template": UTKFACE_TEMPLATE.to_json()}
    save_networks(gray, {"G_ema": small_generator(3, channels=1, z_dim=4)}, header)
    assert "color" in logged(replace(of_faces, generator=str(gray)))
    monkeypatch.setattr(Brightness, "forward", lambda _, images: images.new_tensor([[0, 1]]).expand(len(images), -1))
    assert "both women and men" in logged(of_faces)


@pytest.mark.parametrize("recipe", ["w", "w+"])
def test_any_recipe_starts_from_face_recognition_weights(options: EncoderOptions, tmp_path: Path, recipe: str):
    """As facenet-pytorch saves them: the trunk alone, and layers that an encoder lacks."""
    trained = Encoder(8, 16, 75, (0, 0, 0))
    state = {name.removeprefix("trunk."): tensor for name, tensor in trained.state_dict().items() if "trunk" in name}
    torch.save({**state, "logits.bias": torch.zeros(3)}, tmp_path / "facenet.pt")
    chosen = replace(options, recipe=recipe, data=None, init=str(tmp_path / "facenet.pt"), epochs=1, lr=1e-12)
    run = train_encoder(chosen, tmp_path / "runs", device="cpu", progress=False)
    networks, header = load_networks(run / "encoder-best.safetensors")
    for name, tensor in trained.trunk.named_parameters():
        assert torch.allclose(networks["encoder"].trunk.get_parameter(name), tensor, atol=1e-6), name
    assert header["training_options"]["init"] == "facenet.pt"  # no path of this machine


def test_the_mean_of_w_is_the_generators_whatever_the_encoder_started_from(options: EncoderOptions, tmp_path: Path):
    other = Encoder(8, 16, 75, (0, 0, 0), target="w+", num_ws=6)
    other.w_mean.fill_(7)
    save_networks(tmp_path / "other.safetensors", {"encoder": other}, {})
    chosen = replace(options, recipe="w+", data=None, init=str(tmp_path / "other.safetensors"), epochs=1)
    run = train_encoder(chosen, tmp_path / "runs", device="cpu", progress=False)
    encoder = load_networks(run / "encoder-best.safetensors")[0]["encoder"]
    assert encoder.w_mean.abs().max() < 5
    assert encoder.w_mean.std() > 0


def test_truncated_faces_have_truncated_latents():
    objective = small_objective(get_recipe("w+"))
    faces = some_faces(objective.generator, 4, 0)
    whole = objective._true_ws(faces)
    objective.psi = 0.5
    average = objective.generator.mapping.w_avg
    assert torch.allclose(objective._true_ws(faces), average.lerp(whole, 0.5), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"age_estimator": "gone.safetensors"}, "gone.safetensors"),
        ({"data": "gone.zip"}, "gone.zip"),
        ({"face_network": "net.pt"}, "the recipe age does not use --face-network"),
        ({"recipe": "w+", "perceptual_weight": 1.0}, r"the recipe w\+ compares no pictures, so it does not use"),
        ({"recipe": "identity", "face_network": "gone.pt"}, r"gone.pt: there is no such file \(--face-network"),
    ],
)
def test_impossible_recipes(options: EncoderOptions, tmp_path: Path, change: dict, reason: str):
    with pytest.raises((FacegenError, FileNotFoundError), match=reason) as caught:
        train_encoder(replace(options, **change), tmp_path / "runs", device="cpu", progress=False)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_real_faces_must_fit_the_generator(face_archive: Path):
    groups = AgeGroups.from_labels(GROUPS)
    faces = load_real_faces(face_archive, groups, 16, progress=False)
    assert faces.ages[:3].tolist() == [5, 5, 5]
    assert_refused("--resolution 32", load_real_faces, face_archive, groups, 32, progress=False)
    others = ["0-30", "31-60", "61+"]  # as many, but other ages
    for wrong in (AgeGroups.default(), AgeGroups.from_labels(others)):
        assert_refused("facegen prepare --groups 0-", load_real_faces, face_archive, wrong, 16, progress=False)


def test_old_faces_are_drawn_more_often_than_they_come(face_archive: Path):
    faces = load_real_faces(face_archive, AgeGroups.from_labels(GROUPS), 16, progress=False)
    indices, mirrored = faces.draw(4000, seed=0)
    share = float((faces.ages[indices] == 65).float().mean())
    # 4 of 20 faces; by the square root of the counts 2 of 7.6. Drawn 4000 times: 0.263 +- 0.007.
    assert share == pytest.approx(4**0.5 / (10**0.5 + 6**0.5 + 4**0.5), abs=0.03)
    assert torch.equal(indices, faces.draw(4000, seed=0)[0])
    assert 0.45 < float(mirrored.float().mean()) < 0.55
