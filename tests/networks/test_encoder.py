from __future__ import annotations

from pathlib import Path
from urllib.error import URLError

import pytest
import torch
from safetensors.torch import save_file

from facegen.errors import FacegenError
from facegen.networks.encoder import Encoder, shorten_head
from facegen.weights.facenet import load_trunk
from facegen.weights.load import load_encoder
from facegen.weights.native import load_networks, save_networks

SMALL = {"input_size": 75, "blocks": (1, 1, 0)}


@pytest.fixture(scope="module")
def facenet_state() -> dict[str, torch.Tensor]:
    """A whole InceptionResnetV1 with its classifier, as facenet-pytorch's files are, with random weights."""
    from facenet_pytorch import InceptionResnetV1

    torch.manual_seed(1)
    return InceptionResnetV1(classify=True, num_classes=7).state_dict()


def test_encoder_has_the_trunk_of_inception_resnet_v1(tmp_path: Path, facenet_state: dict[str, torch.Tensor]):
    from facenet_pytorch import InceptionResnetV1

    encoder = Encoder(z_dim=512, input_size=80).eval()
    torch.save(facenet_state, tmp_path / "whole.pt")
    load_trunk(encoder, tmp_path / "whole.pt")
    whole = InceptionResnetV1(classify=True, num_classes=7).eval()
    whole.load_state_dict(facenet_state)
    pooled = []
    whole.avgpool_1a.register_forward_hook(lambda module, args, output: pooled.append(output))
    images = torch.rand(2, 3, 80, 80) * 2 - 1
    with torch.no_grad():
        whole(images)
        features = encoder.trunk(images)
    torch.testing.assert_close(features, pooled[0])
    assert features.shape == (2, 1792, 1, 1)


@pytest.mark.parametrize(("blocks", "millions"), [((5, 10, 5), 22.79), ((2, 2, 0), 9.04), ((1, 1, 0), 8.27)])
def test_encoder_size(blocks: tuple[int, ...], millions: float):
    parameters = sum(p.numel() for p in Encoder(z_dim=128, blocks=blocks).parameters())
    assert parameters / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.mark.parametrize("resolution", [16, 64, 75, 256])
def test_encoder_takes_pictures_of_any_size(resolution: int):
    encoder = Encoder(z_dim=12, **SMALL).eval()
    z = encoder(torch.zeros(2, 3, resolution, resolution))
    assert z.shape == (2, 12)
    assert torch.isfinite(z).all()


def test_encoder_is_deterministic_in_training_mode():
    # No dropout: two passes over one batch agree.
    torch.manual_seed(0)
    encoder = Encoder(z_dim=8, **SMALL).train()
    images = torch.randn(3, 3, 64, 64)
    torch.testing.assert_close(encoder(images), encoder(images))


def test_encoder_keeps_its_arguments_and_goes_through_a_file(tmp_path: Path):
    torch.manual_seed(0)
    encoder = Encoder(z_dim=8, img_resolution=32, **SMALL).eval()
    assert encoder.init_kwargs == {"z_dim": 8, "img_resolution": 32, "input_size": 75, "blocks": [1, 1, 0]}
    save_networks(tmp_path / "e.safetensors", {"encoder": encoder}, {"kimg": 1})
    loaded, header = load_encoder(tmp_path / "e.safetensors")
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(loaded(images), encoder(images))
    assert header["kimg"] == 1


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"blocks": (6, 10, 5)}, "blocks"),
        ({"blocks": (1, -1, 1)}, "blocks"),
        ({"blocks": (1, 1)}, "blocks"),
        ({"input_size": 64}, "from 75 to"),
        ({"input_size": 2**20}, "from 75 to"),
        ({"target": "w", "num_ws": 2**20}, "num_ws"),
        ({"z_dim": 0}, "z_dim"),
    ],
)
def test_encoder_refuses_impossible_sizes(arguments: dict, reason: str):
    with pytest.raises(FacegenError, match=reason):
        Encoder(**{"z_dim": 8, **arguments})


# -- starting weights


def test_load_trunk_none_changes_nothing():
    encoder = Encoder(z_dim=8, **SMALL)
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    load_trunk(encoder, "none")
    for name, tensor in encoder.state_dict().items():
        torch.testing.assert_close(tensor, before[name])


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_load_trunk_takes_the_layers_it_has(tmp_path: Path, facenet_state: dict[str, torch.Tensor], suffix: str):
    encoder = Encoder(z_dim=8, **SMALL)
    head = encoder.head.weight.clone()
    path = tmp_path / f"weights{suffix}"
    torch.save(facenet_state, path) if suffix == ".pt" else save_file(facenet_state, path)
    load_trunk(encoder, path)
    for name, tensor in encoder.trunk.state_dict().items():
        torch.testing.assert_close(tensor, facenet_state[name])
    torch.testing.assert_close(encoder.head.weight, head)


@pytest.mark.parametrize(("z_dim", "head_too"), [(8, True), (9, False)])
def test_load_trunk_takes_one_of_our_encoders(tmp_path: Path, z_dim: int, head_too: bool):
    trained = Encoder(z_dim=8, input_size=75, blocks=(1, 2, 1))
    save_networks(tmp_path / "encoder.safetensors", {"encoder": trained}, {})
    encoder = Encoder(z_dim=z_dim, **SMALL)
    load_trunk(encoder, tmp_path / "encoder.safetensors")
    torch.testing.assert_close(encoder.trunk.mixed_6a.state_dict(), trained.trunk.mixed_6a.state_dict())
    same = encoder.head.weight.shape == trained.head.weight.shape
    assert same is head_too
    assert not same or torch.equal(encoder.head.weight, trained.head.weight)


def test_load_trunk_offline_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import facenet_pytorch.models.inception_resnet_v1 as facenet

    def no_network(*args: object, **kwargs: object) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(facenet, "download_url_to_file", no_network)
    with pytest.raises(FacegenError, match=r"vggface2 weights .*--init FILE.*--init none") as caught:
        load_trunk(Encoder(z_dim=8, **SMALL), "vggface2")
    assert "\n" not in str(caught.value)
    assert "https://" in str(caught.value)


def test_load_trunk_refuses_files_that_do_not_fit(tmp_path: Path, facenet_state: dict[str, torch.Tensor]):
    encoder = Encoder(z_dim=8, **SMALL)
    (tmp_path / "text.pt").write_text("hello")
    (tmp_path / "text.safetensors").write_text("hello")
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    torch.save({**facenet_state, "conv2d_1a.conv.weight": torch.zeros(4)}, tmp_path / "shape.pt")
    torch.save({"model": torch.nn.Linear(2, 2)}, tmp_path / "code.pt")
    for name, reason in [
        ("text.pt", "damaged"),
        ("text.safetensors", "not a safetensors"),
        ("list.pt", "not a state dict"),
        ("other.pt", "missing"),
        ("shape.pt", "has shape"),
        ("code.pt", "refused"),  # whole pickled modules would run code: never loaded
    ]:
        with pytest.raises(FacegenError, match=reason) as caught:
            load_trunk(encoder, tmp_path / name)
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=r"missing\.pt"):
        load_trunk(encoder, tmp_path / "missing.pt")


def test_an_encoder_does_not_start_from_a_folder(tmp_path):
    with pytest.raises(ValueError, match="a folder, not a file"):
        load_trunk(Encoder(4, blocks=(0, 0, 0)), tmp_path)


def test_a_shortened_head_predicts_almost_the_same(tmp_path: Path):
    torch.manual_seed(0)
    whole = Encoder(z_dim=8, target="w+", num_ws=4, **SMALL).eval()
    with torch.no_grad():  # a matrix of rank 5, and a little more
        whole.head.weight.copy_(torch.randn(32, 5) @ torch.randn(5, 1792) + 1e-4 * torch.randn(32, 1792))
        whole.w_mean.normal_()
        whole.head.bias.normal_()
    faces = torch.rand(3, 3, 80, 80) * 2 - 1
    shorter = shorten_head(whole, 5)
    with torch.no_grad():
        torch.testing.assert_close(shorter(faces), whole(faces), rtol=1e-3, atol=1e-3)
        assert (shorten_head(whole, 2)(faces) - whole(faces)).abs().max() > 0.1
    assert sum(p.numel() for p in shorter.head.parameters()) == 5 * (1792 + 32) + 32
    save_networks(tmp_path / "short.safetensors", {"encoder": shorter}, {})
    read = load_networks(tmp_path / "short.safetensors")[0]["encoder"]
    assert torch.equal(read(faces), shorter(faces))
    again = Encoder(z_dim=8, target="w+", num_ws=4, **SMALL)
    load_trunk(again, tmp_path / "short.safetensors")
    torch.testing.assert_close(again.head.weight, whole.head.weight, rtol=0, atol=1e-3)
    with pytest.raises(FacegenError, match="shortened before"):
        shorten_head(shorter, 2)
    with pytest.raises(FacegenError, match="head_rank is from 1 to 32, got 33"):
        shorten_head(whole, 33)
