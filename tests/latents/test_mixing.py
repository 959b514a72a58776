import numpy as np
import pytest
import torch
from helpers import small_generator
from PIL import Image

from facegen.errors import FacegenError
from facegen.latents.files import save_latents
from facegen.latents.generate import tile_of
from facegen.latents.mixing import faces_to_mix, mix_styles, save_mixtures, usual_styles
from facegen.latents.space import LatentSpace


def pixels(path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture).astype(int)


def test_layers_come_from_the_other_face():
    rows, columns = torch.zeros([2, 6, 8]), torch.ones([3, 6, 8])
    every = mix_styles(rows[:, None], columns[None], "1,4-5")
    assert every.shape == (2, 3, 6, 8)
    assert every[1, 2, :, 0].tolist() == [0, 1, 0, 0, 1, 1]
    assert mix_styles(rows[0], columns[0])[:, 0].tolist() == [1, 1, 0, 0, 0, 0]


def test_usual_layers_are_the_lower_part():
    """As many as the paper takes of a network of 1024x1024, and not most of a small one."""
    assert [len(usual_styles(num_ws)) for num_ws in (18, 14, 10, 8, 6, 2)] == [7, 6, 4, 3, 2, 1]


def test_a_network_without_such_layers():
    with pytest.raises(FacegenError, match="6"):
        mix_styles(torch.zeros([6, 8]), torch.ones([6, 8]), "0-6")


@pytest.mark.parametrize(("c_dim", "channels"), [(3, 3), (0, 1)])
def test_files_of_every_mixture(tmp_path, c_dim, channels):
    space = LatentSpace(small_generator(c_dim, channels=channels), device="cpu")
    labels = [space.classes.usual]
    rows = faces_to_mix(space, [1, 2], labels, [], named=False)
    columns = faces_to_mix(space, [2, 3], labels, [], named=False)
    paths = list(save_mixtures(space, rows, columns, [0, 1], tmp_path))
    assert len(paths) == len(set(paths))
    assert {path.stem for path in paths} == {"1-1", "2-2", "3-3", "1-2", "1-3", "2-3", "grid"}
    expected = next(space.draw([torch.cat([columns[1].w[:2], rows[0].w[2:]])]))
    assert np.abs(pixels(tmp_path / "1-3.png") - expected.squeeze()).max() <= 1
    grid = pixels(tmp_path / "grid.png")
    assert (grid[-3 * 66 : -2 * 66, -3 * 66 : -2 * 66] == 0).all(axis=-1).mean() > 0.7  # the corner is black


def test_names_tell_faces_apart(tmp_path):
    """A seed in two classes, latents from files in rows and columns: no file is written twice."""
    space = LatentSpace(small_generator(3), device="cpu")
    first, second, _ = space.classes.choose()
    files = [save_latents(tmp_path / f"{name}.npz", torch.randn([1, 6, 8])) for name in "ab"]
    rows = faces_to_mix(space, [7], [first], files[:1], named=True)
    columns = faces_to_mix(space, [7], [second], files[1:], named=True, first=1)
    paths = list(save_mixtures(space, rows, columns, [0], tmp_path / "out"))
    assert len({path.name for path in paths}) == len(paths) == 4 + 4 + 1
    assert {"7_class0-7_class1.png", "proj00-proj01.png"} < {path.name for path in paths}


def test_large_pictures_are_small_on_a_sheet():
    assert tile_of(np.zeros([1024, 512, 1], np.uint8), 4).shape == (256, 128, 3)
    assert tile_of(np.zeros([1024, 1024, 3], np.uint8), 10_000).shape == (80, 80, 3)
    assert tile_of(np.zeros([16, 16, 3], np.uint8), 4).shape == (16, 16, 3)
