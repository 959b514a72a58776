import io
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import generator_of_groups, small_generator
from PIL import Image

from facegen.errors import FacegenError
from facegen.latents.directions import directions, move, spread
from facegen.latents.directions.files import Factor, read_factor, save_factor
from facegen.latents.directions.move import Mover, save_sheet
from facegen.latents.generate import pictures_of_seeds
from facegen.latents.options import MovingOptions
from facegen.latents.space import LatentSpace


def style_weights(generator) -> dict[str, torch.Tensor]:
    found = generator.named_parameters()
    return {name: weight.detach().double() for name, weight in found if name.endswith("affine.weight")}


def test_they_are_eigenvectors_strongest_first():
    generator = small_generator(0, 32)
    rows = torch.cat([weight for name, weight in style_weights(generator).items() if "torgb" not in name])
    rows = rows / rows.norm(dim=1, keepdim=True)
    found = directions(generator).double()
    strengths = (rows @ found).square().sum(dim=0)
    assert torch.allclose(rows.T @ rows @ found, found * strengths, atol=1e-4)
    assert (strengths.diff() <= 1e-5).all()
    assert torch.allclose(found.T @ found, torch.eye(8, dtype=torch.float64), atol=1e-5)


def test_the_order_of_the_fork():
    """All matrices as they are, that of the first layer of colors among them, but of no other layer of colors."""
    generator = small_generator(0)
    chosen = [x for name, x in style_weights(generator).items() if "torgb" not in name or "b4.torgb" in name]
    expected = torch.linalg.svd(torch.cat(chosen)).Vh.T
    found = directions(generator, order="fork").double()
    assert torch.allclose((found * expected).sum(dim=0).abs(), torch.ones(8, dtype=torch.float64), atol=1e-5)
    assert not torch.allclose(found.float(), directions(generator), atol=1e-2)


def test_the_sign_is_fixed():
    generator = small_generator(3)
    found = directions(generator)
    assert (found.gather(0, found.abs().argmax(dim=0, keepdim=True)) > 0).all()
    with torch.no_grad():
        for name, weight in generator.named_parameters():
            if name.endswith("affine.weight"):
                weight.neg_()
    assert torch.allclose(directions(generator), found, atol=1e-5)


def test_layers_have_directions_of_their_own():
    generator = small_generator(0, 32)
    (weight,) = (x for name, x in style_weights(generator).items() if name == "synthesis.b8.conv1.affine.weight")
    weight = weight / weight.norm(dim=1, keepdim=True)
    expected = torch.linalg.svd(weight, full_matrices=False).Vh.T
    found = directions(generator, layers=[2]).double()
    assert torch.allclose((found * expected).sum(dim=0).abs(), torch.ones(8, dtype=torch.float64), atol=1e-4)
    with pytest.raises(FacegenError):
        directions(generator, layers="8")
    for layers in ([7], "7"):  # the last w only turns features into colors
        with pytest.raises(FacegenError, match="colors"):
            directions(generator, layers=layers)


def test_only_chosen_layers_move():
    ws, direction = torch.randn([2, 6, 8]), torch.randn([8])
    moved = move(ws, direction, torch.tensor([1.0, -2.0]), "0,3-4")
    expected = torch.tensor([1.0, -2.0])[:, None, None] * torch.tensor([1, 0, 0, 1, 1, 0])[:, None] * direction
    assert torch.allclose(moved - ws, expected, atol=1e-6)
    assert torch.allclose(move(ws[0], direction, 3) - ws[0], 3 * direction.expand(6, 8), atol=1e-5)


def test_a_degree_is_a_standard_deviation():
    """In a network whose w lie ten times as far apart, the same degree goes ten times as far."""
    generator, factor = small_generator(3), Factor(torch.eye(8)[:, :2])
    space = LatentSpace(generator, device="cpu")
    (face,) = pictures_of_seeds(space, [1], [space.classes.usual])
    step = Mover(space, factor).moved(face, 1, 1.0) - face.w
    z = torch.randn([5000, 8])
    labels = torch.eye(3)[torch.arange(5000) % 3]
    deviation = space.from_z(z, labels)[:, 0, 1].std()
    assert step[:, 1] == pytest.approx(deviation.expand(6), rel=0.1)
    assert step[:, 0].abs().max() < 1e-6
    wide = small_generator(3)
    wide.mapping.register_forward_hook(lambda module, given, w: 10 * w)
    assert spread(wide, factor.vectors) == pytest.approx(10 * spread(generator, factor.vectors), rel=1e-4)


def test_in_z_a_face_moves_as_in_the_fork():
    space = LatentSpace(small_generator(3), device="cpu")
    (face,) = pictures_of_seeds(space, [7], [space.classes.usual])
    vectors = directions(space.generator)
    z = torch.from_numpy(np.random.RandomState(7).randn(1, 8)).float() + 5 * vectors[:, 2]
    expected = space.from_z(z, face.label.weights[None])[0]
    mover = Mover(space, Factor(vectors), options=MovingOptions(space="z"))
    assert torch.allclose(mover.moved(face, 2, 5.0), expected, atol=1e-5)
    with pytest.raises(FacegenError, match="z"):
        mover.moved(replace(face, seed=None), 2, 5.0)
    with pytest.raises(FacegenError, match="6"):  # z of 8 numbers
        Mover(LatentSpace(generator_of_groups(), device="cpu"), Factor(torch.eye(6)), options=MovingOptions(space="z"))


@pytest.mark.parametrize(
    ("factor", "index", "layers"),
    [(Factor(torch.eye(8)), [8], None), (Factor(torch.eye(7)), [0], None), (Factor(torch.eye(8)), [0], "5-9")],
)
def test_what_the_network_does_not_have(factor, index, layers):
    with pytest.raises(FacegenError, match=r"6|7|8"):
        Mover(LatentSpace(small_generator(0), device="cpu"), factor, index, MovingOptions(layers=layers))


def test_a_sheet_shows_minus_as_it_is_and_plus(tmp_path):
    space = LatentSpace(small_generator(0, 64, 1), device="cpu")
    (face,) = pictures_of_seeds(space, [7], space.classes.choose())
    mover = Mover(space, Factor(directions(space.generator), layers=(0, 1)), [3, 0], MovingOptions(degree=1.5))
    path = save_sheet(mover, face, tmp_path, np.zeros([64, 64, 3], np.uint8))
    assert path.name == "seed0007_index-3,0_degree-1.5.png"
    with Image.open(path) as opened:
        sheet = np.asarray(opened.convert("L")).astype(int)
    for row, index in enumerate((3, 0)):
        for column, degree in enumerate((-1.5, 0.0, 1.5)):
            expected = next(space.draw([mover.moved(face, index, degree)]))[:, :, 0]
            bottom, right = sheet.shape[0] - (1 - row) * 66, sheet.shape[1] - (2 - column) * 66
            assert np.abs(sheet[bottom - 64 : bottom, right - 64 : right] - expected).max() <= 1
    assert (mover.moved(face, 0, 1.0) - face.w)[2:].abs().max() == 0


@pytest.mark.parametrize(("increment", "count"), [(0.5, 9), (0.3, 15), (5.0, 3)])
def test_frames_have_both_ends_and_the_middle(increment, count):
    space = LatentSpace(small_generator(0), device="cpu")
    amounts = Mover(space, Factor(torch.eye(8)), options=MovingOptions(degree=2.0, vid_increment=increment)).amounts()
    assert len(amounts) == count
    assert (amounts[0], amounts[count // 2], amounts[-1]) == (-2.0, 0.0, 2.0)
    assert np.allclose(np.diff(amounts), 4 / (count - 1))


def test_a_video_of_too_many_frames():
    space = LatentSpace(small_generator(0), device="cpu")
    with pytest.raises(FacegenError):
        Mover(space, Factor(torch.eye(8)), options=MovingOptions(vid_increment=1e-300)).amounts()


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".npz"])
@pytest.mark.parametrize("layers", [None, (0, 1, 2)])
def test_files_come_back(tmp_path, suffix, layers):
    factor = Factor(torch.randn([8, 5]), "network.pkl", layers)
    path = save_factor(tmp_path / f"factor{suffix}", factor)
    read = read_factor(path)
    assert torch.equal(read.vectors, factor.vectors)
    assert (read.network, read.layers) == ("network.pkl", layers)


def test_the_fork_reads_and_writes_the_same(tmp_path):
    vectors = torch.randn([8, 5])
    save_factor(tmp_path / "ours.pt", Factor(vectors, "network.pkl"))
    loaded = torch.load(tmp_path / "ours.pt", weights_only=True)
    assert loaded.keys() == {"ckpt", "eigvec"}
    assert torch.equal(loaded["eigvec"], vectors)
    for is_new in (True, False):
        theirs = {"ckpt": "ffhq.pkl", "eigvec": torch.linalg.svd(torch.randn([20, 8])).Vh.T}
        torch.save(theirs, tmp_path / "theirs.pt", _use_new_zipfile_serialization=is_new)
        assert torch.equal(read_factor(tmp_path / "theirs.pt").vectors, theirs["eigvec"])


class Evil:
    def __reduce__(self):
        return (print, ("never",))


def damaged_files() -> dict[str, bytes]:
    def saved(content: object) -> bytes:
        buffer = io.BytesIO()
        torch.save(content, buffer)
        return buffer.getvalue()

    objects = io.BytesIO()
    np.savez(objects, eigvec=np.array([Evil()], dtype=object))
    return {
        "code.pt": saved({"eigvec": Evil()}),
        "plain.pt": pickle.dumps({"eigvec": 1}),
        "other.pt": saved({"weights": torch.eye(3)}),
        "list.pt": saved([torch.eye(3)]),
        "flat.pt": saved({"eigvec": torch.ones([3])}),
        "whole.pt": saved({"eigvec": torch.ones([3, 3], dtype=torch.int64)}),
        "nan.pt": saved({"eigvec": torch.full([3, 3], torch.nan)}),
        "layers.pt": saved({"eigvec": torch.eye(3), "layers": [-1]}),
        "layers2.pt": saved({"eigvec": torch.eye(3), "layers": "all"}),
        "empty.pt": b"",
        "code.npz": objects.getvalue(),
        "text.npz": b"eigvec",
        "text.safetensors": b"eigvec",
    }


@pytest.mark.parametrize("name", damaged_files())
def test_files_that_hold_no_directions(tmp_path, name, capsys):
    (tmp_path / name).write_bytes(damaged_files()[name])
    with pytest.raises(FacegenError, match=name):
        read_factor(tmp_path / name)
    assert "never" not in capsys.readouterr().out


def test_a_file_of_another_kind(tmp_path):
    with pytest.raises(FacegenError):
        save_factor(tmp_path / "factor.txt", Factor(torch.eye(8)))
    assert not list(tmp_path.iterdir())
