import numpy as np
import pytest
import torch
from helpers import small_generator

from facegen.errors import FacegenError
from facegen.latents.files import read_latents, save_latents

GENERATOR = small_generator(0)  # six w of eight numbers


def test_what_is_saved_is_read(tmp_path):
    ws = torch.randn(3, 6, 8)
    path = save_latents(tmp_path / "a.npz", ws, seeds=np.array([1, 2, 3]))
    assert torch.equal(read_latents([path], GENERATOR).ws, ws)
    assert np.load(path)["seeds"].tolist() == [1, 2, 3]


@pytest.mark.parametrize("shape", [(6, 8), (2, 1, 8), (2, 8), (8,)])
def test_arrays_of_fewer_dimensions_are_widened(tmp_path, shape):
    array = np.random.default_rng(0).normal(size=shape)
    np.savez(tmp_path / "a.npz", other=np.zeros(3), dlatents=array)
    ws = read_latents([tmp_path / "a.npz"], GENERATOR).ws
    assert ws.shape == (1 if shape in ((6, 8), (8,)) else 2, 6, 8)
    assert torch.allclose(ws[-1, -1].double(), torch.from_numpy(array.reshape(-1, 8)[-1]), atol=1e-6)


def test_a_folder_is_read_in_natural_order(tmp_path):
    for number in (10, 9, 1):
        np.save(tmp_path / f"w{number}.npy", np.full([6, 8], number, np.float32))
    latents = read_latents([tmp_path], GENERATOR)
    assert latents.ws[:, 0, 0].tolist() == [1, 9, 10]
    assert latents.names == ("proj00", "proj01", "proj02")


@pytest.mark.parametrize(
    "array",
    [np.zeros([1, 5, 8]), np.zeros([1, 6, 7]), np.full([6, 8], np.nan), np.array([["a"] * 8] * 6), np.zeros([0, 6, 8])],
)
def test_latents_of_another_network_are_named(tmp_path, array):
    np.savez(tmp_path / "other.npz", w=array)
    with pytest.raises(FacegenError, match=r"other\.npz"):
        read_latents([tmp_path / "other.npz"], GENERATOR)


def test_no_pickle_is_opened(tmp_path):
    np.savez(tmp_path / "evil.npz", w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FacegenError, match=r"evil\.npz"):
        read_latents([tmp_path / "evil.npz"], GENERATOR)


def test_what_is_no_file_of_latents_is_named(tmp_path):
    (tmp_path / "text.npz").write_text("no zip")
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04 cut")
    for name in ("text.npz", "cut.npz"):
        with pytest.raises(FacegenError, match=name):
            read_latents([tmp_path / name], GENERATOR)
    with pytest.raises(FileNotFoundError):
        read_latents([tmp_path / "none.npz"], GENERATOR)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FacegenError, match="empty"):
        read_latents([tmp_path / "empty"], GENERATOR)
