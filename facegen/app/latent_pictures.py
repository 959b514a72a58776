"""What the tab *Latents* shows, as pictures: faces of seeds, walks, mixtures, and faces moved along directions.

What a visitor can ask for is bounded, so that every request is done within seconds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from facegen.aging.transfer import AgeTransfer
from facegen.aging.video import save_video, why_no_mp4
from facegen.app.displays import Film, Tile
from facegen.app.session import PhotoSession
from facegen.errors import FacegenError
from facegen.latents.directions import directions, move, spread
from facegen.latents.generate import as_image
from facegen.latents.mixing import mix_styles
from facegen.latents.options import TruncationOptions, WalkOptions
from facegen.latents.seeds import MAX_SEED, latents_of_seeds, parse_way
from facegen.latents.space import LatentSpace
from facegen.latents.walks.tours import Keys, plan_tours
from facegen.photos.mark import Mark

LARGE, MIDDLE, SMALL = 384, 192, 128  # pixels of a picture that stands alone, in a dozen, and among more
MAX_FACES = 12  # seeds at a time
MAX_STOPS = 6  # seeds of a walk
MAX_TEXT = 80  # letters of a list of seeds
SECONDS = (2, 8)  # how long a walk lasts
MAX_DEGREE = 3  # beyond it, faces break
ALL_LAYERS = "all"
FPS = {"mp4": 24, "gif": 12}  # GIFs grow large
SIDES = {"mp4": LARGE, "gif": MIDDLE}


@dataclass(frozen=True)
class Start:
    """A face that is moved: its w `[1, num_ws, w_dim]`, what it is called, and what is said of it unmoved."""

    w: torch.Tensor
    name: str
    caption: str = "As it is"


class LatentPictures:
    """Draws what visitors ask for; one of them serves all.

    Args:
        transfer: whose generator draws.

    All methods raise a FacegenError, in words for a visitor, for what cannot be drawn.
    """

    def __init__(self, transfer: AgeTransfer) -> None:
        self._transfer = transfer
        self._space = self._opened(1.0)
        self._steps: dict[str, torch.Tensor] = {}

    def _opened(self, psi: float) -> LatentSpace:
        transfer, truncation = self._transfer, TruncationOptions(trunc=psi)
        return LatentSpace(transfer.generator, groups=transfer.groups, truncation=truncation, device=transfer.device)

    @property
    def resolution(self) -> int:
        """Pixels of a side of what the network draws."""
        return self._space.generator.img_resolution

    @property
    def ages(self) -> tuple[int, int]:
        """The middle of the youngest and of the oldest age group, in years: the network knows nothing beyond."""
        groups = self._transfer.groups
        return groups.middle_age(0), groups.middle_age(len(groups) - 1)

    def faces(self, seed: float | None, count: int, age: float, every: bool, psi: float) -> list[Tile]:
        """Draw `count` seeds from `seed` on, at one age, or in every age group with a title before each seed's."""
        first = checked_seed(seed)
        if not 1 <= count <= MAX_FACES:
            raise FacegenError(f"This page draws 1 to {MAX_FACES} faces at a time.")
        seeds = range(first, min(first + count, MAX_SEED + 1))
        labels = self._space.classes.choose() if every else [self._space.classes.of_age(age)]
        names = self._space.classes.names if every else [f"age {age:g}"]
        weights = torch.stack([label.weights for label in labels]).repeat(len(seeds), 1)
        z = torch.from_numpy(latents_of_seeds(seeds, self._space.generator.z_dim)).repeat_interleave(len(labels), 0)
        pictures = self._draw(self._space.from_z(z, weights, psi), _side(len(z)))
        tiles = []
        for number, picture in enumerate(pictures):
            seed, name = seeds[number // len(labels)], names[number % len(labels)]
            if every and number % len(labels) == 0:
                tiles.append(Tile(f"Seed {seed}"))
            tiles.append(Tile(name if every else f"seed {seed}", picture, f"seed {seed}, {name}"))
        return tiles

    def walk_ages(self, seed: float | None, start: float, end: float, seconds: float, loop: bool, psi: float) -> Film:
        """Film one face from an age to another one."""
        if start == end:
            raise FacegenError("The walk goes nowhere: take two different ages.")
        seed = checked_seed(seed)
        labels = self._space.classes.choose(ages=[start, end])
        words = f"seed {seed} from age {start:g} to {end:g}"
        return self._film(Keys([seed], labels=labels), 2, seconds, loop, psi, words)

    def walk_faces(self, text: str, age: float, seconds: float, loop: bool, psi: float) -> Film:
        """Film a walk from seed to seed at one age.

        Args:
            text: the seeds, as in `7,8,20`.
        """
        if len(text) > MAX_TEXT:
            raise FacegenError(f"These are too many seeds: a walk takes 2 to {MAX_STOPS}.")
        seeds = parse_way(text)
        if not 2 <= len(seeds) <= MAX_STOPS:
            raise FacegenError(f"A walk takes 2 to {MAX_STOPS} seeds, such as 7,8,20.")
        keys = Keys(seeds, labels=[self._space.classes.of_age(age)])
        words = f"seeds {', '.join(map(str, seeds))} at age {age:g}"
        return self._film(keys, len(seeds), seconds, loop, psi, words)

    def _film(self, keys: Keys, stops: int, seconds: float, loop: bool, psi: float, words: str) -> Film:
        if not SECONDS[0] <= seconds <= SECONDS[1]:
            raise FacegenError(f"A walk lasts {SECONDS[0]} to {SECONDS[1]} seconds.")
        kind = "gif" if why_no_mp4() else "mp4"
        frames = max(2, round(seconds * FPS[kind] / (stops if loop else stops - 1)))
        options = WalkOptions(interpolation="slerp", easing="easeInOutQuad", frames=frames, loop=loop)
        space = self._opened(psi)
        (tour,) = plan_tours(space, options, keys)
        pictures = (_enlarged(as_image(frame), SIDES[kind]) for frame in space.draw(tour.ws))
        name, mark = (
            f"facegen {words}.{kind}".replace(",", "").replace(" ", "-"),
            Mark(generated=True, made=f"a walk, {words}"),
        )
        with tempfile.TemporaryDirectory(prefix="facegen-walk-") as folder:
            path = save_video(pictures, Path(folder) / name, FPS[kind], total=tour.total, mark=mark, bounces=False)
            return Film(path.read_bytes(), kind, name, f"A walk: {words}", tour.total / FPS[kind])

    def mixed(
        self, shape: tuple[float | None, float], skin: tuple[float | None, float], parts: Sequence[str], psi: float
    ) -> list[Tile]:
        """Draw two faces, and a third one with some layers of the first and all others of the second.

        Args:
            shape, skin: the seed and the age of each.
            parts: what the first one gives: coarse, middle, fine.
        """
        faces = [(checked_seed(seed), age) for seed, age in (shape, skin)]
        ws = torch.cat([self._face(seed, age, psi) for seed, age in faces])
        mixture = mix_styles(ws[1], ws[0], ",".join(parts)) if parts else ws[1]
        one, other = (f"seed {seed}, age {age:g}" for seed, age in faces)
        pictures = self._draw(torch.stack([ws[0], ws[1], mixture]), LARGE)
        given = f"{' and '.join(parts) or 'no'} layers of {one}, others of {other}"
        captions, made = ("Shape", "Skin", "Both"), (one, other, given)
        return [Tile(*each) for each in zip(captions, pictures, made, strict=True)]

    def of_seed(self, seed: float | None, age: float, psi: float) -> Start:
        """A seed's face at an age."""
        seed = checked_seed(seed)
        return Start(self._face(seed, age, psi), f"seed {seed}, age {age:g}")

    def of_photo(self, photo: PhotoSession | None) -> Start:
        """The largest face of a photo, as the encoder sees it, at the age that it looks."""
        if photo is None:
            raise FacegenError("There is no photo yet: drop one in the tab Change age.")
        latent, age = torch.from_numpy(photo.latents[0]), torch.tensor(photo.input_ages[:1])
        device = self._transfer.device
        w = self._transfer.latent_ages.place(latent[None].to(device), age.to(device))
        return Start(w, "the face of a photo", "As the network sees it")

    def moved(self, start: Start, layers: str, moves: Sequence[tuple[float | None, float]]) -> list[Tile]:
        """Draw a face as it is, and moved along directions.

        Args:
            start: from `of_seed` or `of_photo`.
            layers: coarse, middle, fine, or ALL_LAYERS; each has directions of its own.
            moves: the number of a direction, and how far, in standard deviations of all faces along it.
        """
        steps = self._directions(layers)
        way, count = start.w, steps.shape[1]
        for number, degree in moves:
            if number is None or not 0 <= number < count or int(number) != number:
                raise FacegenError(f"Directions of these layers are numbered 0 to {count - 1}.")
            if not abs(degree) <= MAX_DEGREE:
                raise FacegenError(f"Faces break beyond {MAX_DEGREE} degrees.")
            way = move(way, steps[:, int(number)], degree, _parts(layers))
        along = ", ".join(f"{degree:+g} along direction {number:g}" for number, degree in moves if degree)
        pictures = self._draw(torch.cat([start.w, way]), LARGE)
        return [
            Tile(start.caption, pictures[0], start.name),
            Tile("Moved", pictures[1], f"{start.name}, moved {along}, {layers} layers" if along else start.name),
        ]

    def _directions(self, layers: str) -> torch.Tensor:
        """Steps of one degree along the directions of layers, `[w_dim, n]`."""
        if layers not in self._steps:
            found = directions(self._space.generator, _parts(layers)).to(self._space.device)
            self._steps[layers] = found * spread(self._space.generator, found)
        return self._steps[layers]

    def _face(self, seed: int, age: float, psi: float) -> torch.Tensor:
        """The w `[1, num_ws, w_dim]` of a seed at an age."""
        z = torch.from_numpy(latents_of_seeds([seed], self._space.generator.z_dim))
        return self._space.from_z(z, self._space.classes.of_age(age).weights[None], psi)

    def _draw(self, ws: torch.Tensor, side: int) -> list[Image.Image]:
        return [_enlarged(as_image(pixels), side) for pixels in self._space.draw(ws)]


def checked_seed(seed: float | None) -> int:
    """Return a seed as a visitor typed it; a FacegenError for none, and for what is none."""
    if seed is None or not 0 <= seed <= MAX_SEED or int(seed) != seed:
        raise FacegenError(f"A seed is a whole number from 0 to {MAX_SEED}.")
    return int(seed)


def _parts(layers: str) -> str | None:
    return None if layers == ALL_LAYERS else layers


def _side(count: int) -> int:
    """How large each of so many pictures is."""
    return LARGE if count == 1 else MIDDLE if count <= MAX_FACES else SMALL


def _enlarged(picture: Image.Image, side: int) -> Image.Image:
    """A picture enlarged to a longer side of so many pixels; larger ones stay as they are."""
    scale = side / max(picture.size)
    if scale <= 1:
        return picture
    size = (round(picture.width * scale), round(picture.height * scale))
    return picture.resize(size, Image.Resampling.BICUBIC)
