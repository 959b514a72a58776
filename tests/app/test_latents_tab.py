"""The tab Latents: what it draws, with the package's networks, and what it says of what it cannot draw."""

from __future__ import annotations

import base64
import io
import tempfile

import numpy as np
import pytest
from helpers import HOPPER
from PIL import Image

pytest.importorskip("gradio", reason="the page needs gradio")

import gradio as gr

import facegen
from facegen.aging.transfer import AgeTransfer
from facegen.aging.video import why_no_mp4
from facegen.app.displays import Film, Tile, hung, screened
from facegen.app.latent_pictures import ALL_LAYERS, LARGE, MAX_FACES, SMALL, LatentPictures, checked_seed
from facegen.app.latents_tab import AGES_OF_ONE, FACES, OF_PHOTO, OF_SEED, LatentsTab
from facegen.app.session import PhotoSession
from facegen.errors import FacegenError
from facegen.faces.find import find_faces
from facegen.images import open_photo
from facegen.latents.seeds import MAX_SEED
from facegen.weights.load import load_generator
from facegen.weights.locate import shipped_file


@pytest.fixture(scope="module")
def transfer() -> AgeTransfer:
    return AgeTransfer.from_files(device="cpu")


@pytest.fixture(scope="module")
def pictures(transfer) -> LatentPictures:
    return LatentPictures(transfer)


@pytest.fixture(scope="module")
def tab(transfer) -> LatentsTab:
    with gr.Blocks(analytics_enabled=False):
        return LatentsTab(transfer, gr.State(None))


def pixels(tile: Tile) -> np.ndarray:
    assert tile.picture is not None
    return np.asarray(tile.picture).astype(int)


def test_a_seed_is_the_face_that_facegen_generate_draws(pictures):
    (tile,) = pictures.faces(7, 1, 35, every=False, psi=1)
    space = facegen.LatentSpace.open(device="cpu")
    drawn = Image.fromarray(next(space.draw(space.from_seeds([7], space.classes.of_age(35)))))
    assert tile.picture.size == (LARGE, LARGE)
    assert np.abs(pixels(tile) - np.asarray(drawn.resize((LARGE, LARGE), Image.Resampling.BICUBIC))).max() <= 1
    assert tile.made == "seed 7, age 35"


def test_every_age_group_of_two_seeds(pictures):
    tiles = pictures.faces(7, 2, 35, every=True, psi=0.7)
    titles = [tile.caption for tile in tiles if tile.picture is None]
    assert titles == ["Seed 7", "Seed 8"]
    assert [tile.caption for tile in tiles[1:11]] == pictures._transfer.groups.labels
    assert tiles[12].made == "seed 8, 0-10"
    assert {tile.picture.size for tile in tiles if tile.picture} == {(SMALL, SMALL)}
    (alone,) = pictures.faces(8, 1, 5, every=False, psi=0.7)  # the youngest group's middle
    small = np.asarray(alone.picture.resize((SMALL, SMALL)))
    assert np.abs(pixels(tiles[12]) - small).mean() < 5 < np.abs(pixels(tiles[13]) - small).mean()


def test_truncation_0_is_one_face_for_all_seeds(pictures):
    one, other = pictures.faces(7, 2, 35, every=False, psi=0)
    assert np.abs(pixels(one) - pixels(other)).max() <= 1
    one, other = pictures.faces(7, 2, 35, every=False, psi=1)
    assert np.abs(pixels(one) - pixels(other)).mean() > 5


def test_the_last_seed_has_no_successor(pictures):
    assert [tile.caption for tile in pictures.faces(MAX_SEED, 3, 35, False, 1)] == [f"seed {MAX_SEED}"]


@pytest.mark.parametrize("seed", [None, -1, MAX_SEED + 1, 1.5, float("nan"), float("inf")])
def test_no_seed(seed):
    with pytest.raises(FacegenError, match="A seed is a whole number from 0 to 4294967295"):
        checked_seed(seed)


def test_a_walk_through_ages_is_a_film_and_leaves_no_file(pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    film = pictures.walk_ages(7, 20, 70, 2, loop=True, psi=0.7)
    assert film.kind == ("gif" if why_no_mp4() else "mp4")
    assert film.name == f"facegen-seed-7-from-age-20-to-70.{film.kind}"
    assert film.seconds == 2
    assert b"trainedAlgorithmicMedia" in film.content or b"generated picture" in film.content
    assert list(tmp_path.iterdir()) == []


def test_a_walk_begins_and_ends_with_its_seeds(pictures, monkeypatch):
    monkeypatch.setattr("facegen.app.latent_pictures.why_no_mp4", lambda: "there is no encoder")
    film = pictures.walk_faces("7, 9", 35, 2, loop=False, psi=1)
    assert film.kind == "gif"
    first, last = pictures.faces(7, 1, 35, False, 1) + pictures.faces(9, 1, 35, False, 1)
    with Image.open(io.BytesIO(film.content)) as gif:
        assert gif.n_frames == 24
        for frame, tile in ((0, first), (23, last)):
            gif.seek(frame)
            shown = np.asarray(gif.convert("RGB")).astype(int)
            drawn = np.asarray(tile.picture.resize(gif.size))
            assert np.abs(shown - drawn).mean() < 12  # of 256 colors


@pytest.mark.parametrize("text", ["7", "", "seven", "1,2,3,4,5,6,7", "0-99999", "9" * 100, "7;8", "-1,3"])
def test_no_walk(pictures, text):
    with pytest.raises(FacegenError):
        pictures.walk_faces(text, 35, 2, True, 1)


def test_bounds(pictures):
    with pytest.raises(FacegenError, match="two different ages"):
        pictures.walk_ages(7, 20, 20, 2, True, 1)
    with pytest.raises(FacegenError, match="lasts 2 to 8 seconds"):
        pictures.walk_ages(7, 20, 30, 1000, True, 1)
    with pytest.raises(FacegenError, match=f"1 to {MAX_FACES} faces"):
        pictures.faces(7, 1000, 35, True, 1)
    with pytest.raises(FacegenError, match="break beyond 3"):
        pictures.moved(pictures.of_seed(7, 35, 1), "coarse", [(0, 50.0)])


def test_a_mixture_has_the_layers_that_are_asked_for(pictures):
    asked = {"shape": (3, 20.0), "skin": (9, 75.0), "psi": 0.7}
    shape, skin, mixture = pictures.mixed(parts=["coarse"], **asked)
    assert [tile.caption for tile in (shape, skin, mixture)] == ["Shape", "Skin", "Both"]
    assert mixture.made == "coarse layers of seed 3, age 20, others of seed 9, age 75"
    assert min(np.abs(pixels(mixture) - pixels(tile)).mean() for tile in (shape, skin)) > 5
    assert (pixels(pictures.mixed(parts=[], **asked)[2]) == pixels(skin)).all()
    assert (pixels(pictures.mixed(parts=["coarse", "middle", "fine"], **asked)[2]) == pixels(shape)).all()


@pytest.mark.parametrize("layers", ["coarse", "middle", "fine", ALL_LAYERS])
def test_directions_move_a_face_as_the_library_does(pictures, layers):
    still, moved = pictures.moved(pictures.of_seed(7, 35, 1), layers, [(2, 1.5), (0, 0.0)])
    space = facegen.LatentSpace.open(device="cpu")
    named = None if layers == ALL_LAYERS else layers
    found = facegen.directions(space.generator, named)
    step = (found * facegen.spread(space.generator, found))[:, 2]
    ws = space.from_seeds([7], space.classes.of_age(35))
    drawn = Image.fromarray(next(space.draw(facegen.move(ws, step, 1.5, named))))
    assert np.abs(pixels(moved) - np.asarray(drawn.resize((LARGE, LARGE), Image.Resampling.BICUBIC))).max() <= 2
    assert np.abs(pixels(moved) - pixels(still)).mean() > 2
    assert moved.made == f"seed 7, age 35, moved +1.5 along direction 2, {layers} layers"


def test_there_are_only_so_many_directions(pictures):
    count = pictures._directions("fine").shape[1]
    face = pictures.of_seed(7, 35, 1)
    pictures.moved(face, "fine", [(count - 1, 1.0)])
    for number in (None, -1, count, 0.5):
        with pytest.raises(FacegenError, match=f"numbered 0 to {count - 1}"):
            pictures.moved(face, "fine", [(number, 1.0)])


def test_a_photo_s_face_is_where_the_encoder_sees_it(pictures, transfer):
    session = PhotoSession(transfer, HOPPER)
    try:
        still, moved = pictures.moved(pictures.of_photo(session), "coarse", [(0, 3.0)])
        ((result,),) = transfer.age_found([open_photo(HOPPER)], [find_faces(open_photo(HOPPER))[:1]], [50])
    finally:
        session.close()
    reconstruction = result.reconstruction.resize((LARGE, LARGE), Image.Resampling.BICUBIC)
    assert np.abs(pixels(still) - np.asarray(reconstruction)).max() <= 2
    assert np.abs(pixels(moved) - pixels(still)).mean() > 3
    assert still.caption == "As the network sees it"
    assert moved.made == "the face of a photo, moved +3 along direction 0, coarse layers"


def test_pictures_in_the_page_say_that_they_are_generated(pictures):
    tiles = [Tile("Seed 7"), *pictures.faces(7, 1, 35, False, 1)]
    value = hung(tiles, 4, 200)
    assert (value["columns"], value["side"]) == (4, 200)
    title, tile = value["tiles"]
    assert title == {"caption": "Seed 7", "alt": "", "src": ""}
    assert tile["alt"] == "Generated face: seed 7, age 35"
    content = base64.b64decode(tile["src"].removeprefix("data:image/jpeg;base64,"))
    assert b"trainedAlgorithmicMedia" in content
    with Image.open(io.BytesIO(content)) as picture:
        assert picture.size == (LARGE, LARGE)


def test_a_film_goes_to_the_page_whole():
    value = screened(Film(b"bytes", "gif", "walk.gif", "A walk", 2.0))
    assert base64.b64decode(value["data"]) == b"bytes"
    assert (value["type"], value["name"], value["caption"]) == ("image/gif", "walk.gif", "A walk")


def test_the_tab_says_what_is_wrong_and_leaves_what_is_shown(tab):
    value, said = tab.faces(-1, 1, 35, False, 1)
    assert value == gr.skip()
    assert said == "A seed is a whole number from 0 to 4294967295."
    _, said = tab.walk(FACES, 7, 5, 95, "<b>x</b>", 35, 2, True, 1)
    assert "&lt;b&gt;" in said
    assert "<b>" not in said
    _, said = tab.mix(None, 20, 9, 75, ["coarse"], 1)
    assert said.startswith("A seed is")
    count = load_generator(shipped_file("generator"))[0].w_dim
    _, said = tab.move(OF_SEED, None, 7, 35, 1, "coarse", count, 1.0)
    assert said == f"Directions of these layers are numbered 0 to {count - 1}."
    _, said = tab.move(OF_PHOTO, None, 7, 35, 1, "coarse", 0, 1.0)
    assert said == "There is no photo yet: drop one in the tab Change age."


def test_the_tab_draws(tab):
    value, said = tab.faces(7, 12, 35, False, 0.7)
    assert (len(value["tiles"]), value["columns"], said) == (12, 4, "")
    value, said = tab.walk(AGES_OF_ONE, 7, 5, 95, "", 35, 2, False, 0.7)
    assert value["name"].startswith("facegen-seed-7-from-age-5-to-95")
    assert said == "A walk: seed 7 from age 5 to 95, 2 seconds."
    assert len(tab.mix(3, 20, 9, 75, ["coarse"], 1)[0]["tiles"]) == 3
    assert len(tab.move(OF_SEED, None, 7, 35, 1, "coarse", 0, 1.0, 1, 0.0)[0]["tiles"]) == 2
