import pytest
import torch

from facegen.errors import FacegenError
from facegen.networks.discriminator import Discriminator
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.training.generator.start_from import CopyReport, copy_matching, shorten

CLASSES = 10
Z = 16


def generator(c_dim: int = 0, resolution: int = 16, base: int = 128, seed: int = 0, **mapping) -> Generator:
    torch.manual_seed(seed)
    kwargs = {"num_layers": 4, **mapping}
    G = Generator(Z, c_dim, Z, resolution, 3, mapping_kwargs=kwargs, synthesis_kwargs={"channel_base": base})
    with torch.no_grad():
        for name, parameter in G.named_parameters():
            if name.endswith("bias"):  # those of a trained network are not 0
                parameter.add_(torch.randn_like(parameter) * 0.1)
        G.mapping.w_avg.normal_()
    return G.eval()


def discriminator(c_dim: int = 0, resolution: int = 16, base: int = 128, seed: int = 1, **kwargs) -> Discriminator:
    torch.manual_seed(seed)
    D = Discriminator(c_dim, resolution, 3, channel_base=base, **kwargs)
    with torch.no_grad():
        D.b4.out.bias.normal_()
    return D.eval()


def labels(index: int, count: int = 4, c_dim: int = CLASSES) -> torch.Tensor:
    return torch.eye(c_dim)[[index] * count]


def assert_close(actual: torch.Tensor, expected: torch.Tensor, bound: float = 2e-6) -> None:
    """Float32 rounds to 6e-8; a factor rounds once, and a dozen layers pass that on."""
    assert float((actual - expected).abs().max()) < bound * float(expected.abs().max())


# --- Going conditional, and back ------------------------------------------------------------------------------------


@pytest.mark.parametrize("mapping", [{}, {"embed_features": 5}, {"lr_multiplier": 1.0}, {"num_layers": 1}], ids=str)
@torch.no_grad()
def test_generator_with_classes_draws_what_it_drew_without(mapping):
    old, new = generator(**mapping), generator(CLASSES, seed=5, **mapping)
    report = copy_matching(old, new)
    z = torch.randn(4, Z)
    expected = old(z, None, noise_mode="const", truncation_psi=0.7)
    pictures = [new(z, labels(k), noise_mode="const", truncation_psi=0.7) for k in range(CLASSES)]
    assert_close(pictures[0], expected, 1e-5)
    assert_close(new.mapping(z, labels(0)), old.mapping(z, None))
    assert all(torch.equal(picture, pictures[0]) for picture in pictures)  # what is multiplied by 0 leaves no trace
    assert report.adapted == ("mapping.fc0.weight", "mapping.fc0.bias")
    assert report.new == ("mapping.embed.weight", "mapping.embed.bias")
    assert not report.unused


@pytest.mark.parametrize("kwargs", [{}, {"cmap_dim": 12}, {"mapping_kwargs": {"num_layers": 2}}], ids=str)
@torch.no_grad()
def test_discriminator_with_classes_judges_as_it_did_without(kwargs):
    old, new = discriminator(), discriminator(CLASSES, seed=5, **kwargs)
    report = copy_matching(old, new)
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    for k in range(CLASSES):
        assert_close(new(images, labels(k)), old(images, None), 1e-5)
    assert report.adapted == ("b4.out.weight", "b4.out.bias")
    assert {name.split(".")[0] for name in report.new} == {"mapping"}


@torch.no_grad()
def test_more_classes_than_the_label_has_room_for():
    old, new = discriminator(), discriminator(CLASSES, seed=5, cmap_dim=2)
    copy_matching(old, new)
    images = torch.rand(4, 3, 16, 16)
    assert torch.isfinite(new(images, labels(0))).all()


@torch.no_grad()
def test_discriminator_without_classes_is_the_mean_over_them():
    old, new = discriminator(CLASSES), discriminator(seed=5)
    report = copy_matching(old, new)
    images = torch.rand(4, 3, 16, 16) * 2 - 1
    expected = torch.stack([old(images, labels(k)) for k in range(CLASSES)]).mean(dim=0)
    assert_close(new(images, None), expected, 1e-5)
    assert report.adapted == ("b4.out.weight", "b4.out.bias")
    assert {name.split(".")[0] for name in report.unused} == {"mapping"}


@torch.no_grad()
def test_generator_without_classes_stands_between_them():
    old, new = generator(CLASSES), generator(seed=5)
    copy_matching(old, new)
    z = torch.randn(64, Z)
    before = torch.stack([old.mapping(z, labels(k, 64))[:, 0] for k in range(CLASSES)])
    w = new.mapping(z, None)[:, 0]
    # Layers are not linear, so not the very mean; but nearer to it than the classes are.
    assert (w - before.mean(dim=0)).norm() < 0.5 * (before - before.mean(dim=0)).norm(dim=(1, 2)).mean()


@torch.no_grad()
def test_there_and_back_again():
    old, between, new = generator(), generator(CLASSES, seed=5), generator(seed=6)
    copy_matching(old, between)
    copy_matching(between, new)
    z = torch.randn(4, Z)
    assert_close(new(z, None, noise_mode="const"), old(z, None, noise_mode="const"), 1e-5)


def test_the_label_learns_though_it_starts_at_nothing():
    new = generator(CLASSES, seed=5)
    copy_matching(generator(), new)
    optimizer = torch.optim.Adam(new.mapping.parameters(), lr=0.01)
    columns = new.mapping.fc0.weight[:, Z:]
    assert not columns.any()
    embedding = new.mapping.embed.weight.clone()
    z, c = torch.randn(CLASSES, Z), torch.eye(CLASSES)
    target = torch.randn(CLASSES, 1, Z)
    for step in range(2):
        optimizer.zero_grad()
        (new.mapping(z, c) - target).square().mean().backward()
        assert new.mapping.fc0.weight.grad[:, Z:].abs().min() > 0
        assert bool(new.mapping.embed.weight.grad.any()) == (step > 0)
        optimizer.step()
    assert new.mapping.fc0.weight[:, Z:].all()
    assert not torch.equal(new.mapping.embed.weight, embedding)


def test_the_discriminator_learns_classes_apart():
    """After a few steps along the gradient of "class 0 is real, the others are not", it says so."""
    new = discriminator(CLASSES, seed=5, epilogue_kwargs={"mbstd_group_size": None})
    copy_matching(discriminator(), new)
    images = torch.rand(CLASSES, 3, 16, 16)
    optimizer = torch.optim.Adam(new.parameters(), lr=0.002)
    for _ in range(20):
        logits = new(images, torch.eye(CLASSES))
        optimizer.zero_grad()
        torch.nn.functional.softplus(logits * torch.tensor([-1.0] + [1.0] * (CLASSES - 1))[:, None]).mean().backward()
        optimizer.step()
    same = images[:1].expand(CLASSES, -1, -1, -1)
    with torch.no_grad():
        logits = new(same, torch.eye(CLASSES)).flatten()
    assert logits[0] > logits[1:].max()


# --- Other resolutions, widths and numbers of classes ---------------------------------------------------------------


def test_the_same_architecture_is_copied_whole():
    for old, new in (
        (generator(CLASSES), generator(CLASSES, seed=5)),
        (discriminator(3), discriminator(3, seed=5)),
        (Encoder(4, input_size=75, blocks=(0, 0, 0)), Encoder(4, input_size=75, blocks=(0, 0, 0))),
    ):
        report = copy_matching(old, new)
        assert not (report.adapted)
        assert not (report.new)
        assert not (report.unused)
        assert all(torch.equal(tensor, new.state_dict()[name]) for name, tensor in old.state_dict().items())
        assert str(report) == f"copied {len(old.state_dict())} of {len(old.state_dict())} tensors"


def test_a_larger_generator_lists_its_new_block():
    report = copy_matching(generator(CLASSES), generator(CLASSES, resolution=32, seed=5))
    everything = len(report.copied) + len(report.new)
    assert str(report) == f"copied {len(report.copied)} of {everything} tensors; new: synthesis.b32.*"
    assert not report.unused


@torch.no_grad()
def test_a_smaller_generator_draws_what_the_larger_one_has_at_its_size():
    old, new = generator(CLASSES), generator(CLASSES, resolution=8, seed=5)
    report = copy_matching(old, new)
    assert not report.new
    assert str(report).endswith("; not used: synthesis.b16.*")
    ws = old.mapping(torch.randn(2, Z), labels(0, 2))
    x = img = None
    for resolution, part in ((4, ws[:, :2]), (8, ws[:, 1:4])):
        block = getattr(old.synthesis, f"b{resolution}")
        x, img = block(x, img, part, "const", True, False)
    assert torch.equal(new.synthesis(ws[:, :4], noise_mode="const"), img)


def test_a_larger_discriminator_keeps_all_but_its_first_block():
    report = copy_matching(discriminator(), discriminator(resolution=32, seed=5))
    assert "new: b32.*" in str(report)
    assert set(report.unused) == {"b16.fromrgb.weight", "b16.fromrgb.bias", "b16.fromrgb.resample_filter"}


def test_other_widths_take_what_has_the_same_shape():
    old, new = generator(base=128), generator(base=256, seed=5)
    before = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    report = copy_matching(old, new)
    assert "mapping.fc0.weight" in report.copied
    assert "synthesis.b4.conv1.weight" in report.new
    assert "synthesis.b4.conv1.weight" in report.unused
    for name, tensor in new.state_dict().items():
        assert torch.equal(tensor, old.state_dict()[name] if name in report.copied else before[name]), name


def test_other_classes_leave_the_embedding_new():
    report = copy_matching(generator(3), generator(CLASSES, seed=5))
    assert report.new == ("mapping.embed.weight",)
    assert report.unused == ("mapping.embed.weight",)
    assert not report.adapted
    report = copy_matching(discriminator(3), discriminator(CLASSES, seed=5))
    assert report.new == ("mapping.embed.weight",)


def test_the_source_stays_as_it_is():
    old, new = generator(), generator(CLASSES, seed=5)
    before = {name: tensor.clone() for name, tensor in old.state_dict().items()}
    copy_matching(old, new)
    with torch.no_grad():
        for parameter in new.parameters():
            parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in old.state_dict().items())


def test_of_another_kind():
    with pytest.raises(FacegenError, match="a Discriminator cannot start from a Generator"):
        copy_matching(generator(), discriminator())


# --- The report -----------------------------------------------------------------------------------------------------


def test_shorten():
    among = ["a.b.x", "a.b.y", "a.c.x", "d", "e.x"]
    assert shorten(["a.b.x", "a.b.y"], among) == ["a.b.*"]
    assert shorten(["a.b.x", "a.b.y", "a.c.x", "d"], among) == ["a.*", "d"]
    assert shorten(["a.b.x", "e.x"], among) == ["a.b.x", "e.*"]
    assert shorten(["a.b.x"], ["a.b.x", "a.bc.y"]) == ["a.b.*"]
    assert shorten([], among) == []


def test_report_in_one_line():
    report = CopyReport(("a.x", "b.x"), ("b.y",), ("c.x", "c.y"), ("a.z",))
    assert str(report) == "copied 2 of 5 tensors; adapted: b.y; new: c.*; not used: a.z"
    assert report.adapted or report.new or report.unused
