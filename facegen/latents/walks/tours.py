"""Turn a command's options into walks, and name their videos."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from facegen.errors import FacegenError
from facegen.latents.files import read_latents
from facegen.latents.labels import Label
from facegen.latents.mapping import map_latents
from facegen.latents.options import LOOPS, WalkOptions
from facegen.latents.seeds import latents_of_seeds
from facegen.latents.space import LatentSpace
from facegen.latents.walks.loops import NOISE_DIAMETER, circle, circle_diameter, noise_circle
from facegen.latents.walks.paths import (
    between,
    labels_between,
    places_between,
    psi_steps,
    staying,
    ws_between,
    ws_of_labels,
    ws_of_z,
)

MAX_NAMES = 8  # of seeds in a video's name


@dataclass(frozen=True)
class Keys:
    """What a walk goes by.

    seeds, files: faces; those of files come first.
    labels: classes or ages; empty for latents from files that are of no class.
    """

    seeds: Sequence[int] = ()
    files: Sequence[str | os.PathLike[str]] = ()
    labels: Sequence[Label] = ()


@dataclass(frozen=True)
class Tour:
    """A walk to draw.

    name: of its video, without a suffix.
    total: how many frames it has.
    ws: the w `[num_ws, w_dim]` of every frame, computed as they are asked for.
    folder: where its files go; empty where there is one walk only.
    """

    name: str
    total: int
    ws: Iterable[torch.Tensor]
    folder: str = ""


def plan_tours(space: LatentSpace, options: WalkOptions, keys: Keys) -> list[Tour]:
    """Return the walks that options and keys mean.

    Truncation is a walk for each face. Several classes or ages are a walk through them for each seed. Anything else is
    one walk, from face to face or around a loop.

    Raises a FacegenError for keys that make no walk, and for files of other networks' latents.
    """
    if options.process == "truncation":
        return _truncations(space, options, keys)
    if options.interpolation in LOOPS:
        return [_around(space, options, keys)]
    if len(keys.labels) > 1:
        return _through_labels(space, options, keys)
    return [_through_faces(space, options, keys)]


def _truncations(space: LatentSpace, options: WalkOptions, keys: Keys) -> list[Tour]:
    """One face, from truncation to truncation."""
    psi = psi_steps(options.start, options.stop, options.increment)
    ws, labels, names = _faces(space, keys)
    tours = []
    for index, name in enumerate(names):
        way = ws_between(space, ws[index, None], [labels[index]], staying(len(psi)), psi=psi)
        words = _words("truncation", name, keys.labels, _range(options), f"inc_{options.increment:g}")
        tours.append(Tour(words, len(psi), way, name.replace("_", "")))
    return _in_folders(tours)


def _around(space: LatentSpace, options: WalkOptions, keys: Keys) -> Tour:
    """A closed loop through z."""
    if keys.files:
        raise FacegenError("a loop goes through z, and latents from files have none: leave out --projected-w")
    z_dim, count, name = space.generator.z_dim, options.frames, f"seed_{options.random_seed}"
    if options.interpolation == "noiseloop":
        diameter = options.diameter or NOISE_DIAMETER
        z = noise_circle(options.random_seed, z_dim, diameter, count)
    else:
        diameter = options.diameter or circle_diameter(z_dim)
        corners = np.random.RandomState(options.random_seed).randn(3, z_dim)
        if keys.seeds:
            corners, name = latents_of_seeds(keys.seeds, z_dim), _listed(keys.seeds)
        if len(corners) != 3:
            raise FacegenError(f"a circle lies in the plane of three seeds, not of {len(corners)}")
        z = circle(corners, diameter, count)
    labels = _one_label(keys).weights.expand(count, -1)
    words = _words(options.process, options.interpolation, f"{diameter:.4g}dia", name, keys.labels, _range(options))
    return Tour(words, count, ws_of_z(space, torch.from_numpy(z), labels, _psi(options, count)))


def _through_labels(space: LatentSpace, options: WalkOptions, keys: Keys) -> list[Tour]:
    """Each seed through classes or ages."""
    if keys.files:
        raise FacegenError("latents from files have no z, so their class cannot change: name at most one class or age")
    places = places_between(len(keys.labels), options.frames, loop=options.loop, easing=options.easing)
    labels, psi = labels_between(space.classes, keys.labels, places), _psi(options, len(places))
    tours = []
    for seed in dict.fromkeys(keys.seeds):
        z = torch.from_numpy(latents_of_seeds([seed], space.generator.z_dim))
        words = _words(options.process, options.interpolation, f"seed_{seed}", keys.labels, *_more(options))
        tours.append(Tour(words, len(places), ws_of_labels(space, z, labels, psi), f"seed{seed:04d}"))
    return _in_folders(tours)


def _through_faces(space: LatentSpace, options: WalkOptions, keys: Keys) -> Tour:
    """From seed to seed, and from latent to latent."""
    if keys.files and options.space == "z":
        raise FacegenError("latents from files have no z: leave out --space z")
    slerps = options.interpolation == "slerp"
    if keys.files or options.space == "w":
        ws, labels, names = _faces(space, keys)
    else:
        names = [f"seed_{seed}" for seed in keys.seeds]
    if len(names) < 2:
        raise FacegenError("a walk needs two seeds or more, or several ages, as in --age 5:90")
    places = places_between(len(names), options.frames, loop=options.loop, easing=options.easing)
    psi = _psi(options, len(places))
    if keys.files or options.space == "w":
        way = ws_between(space, ws, labels, places, slerps=slerps, psi=psi)
    else:
        z = between(torch.from_numpy(latents_of_seeds(keys.seeds, space.generator.z_dim)), places, slerps=slerps)
        way = ws_of_z(space, z, _one_label(keys).weights.expand(len(places), -1), psi)
    count = len(names) - len(keys.seeds)
    faces = [f"latents_{count}"] * bool(count) + [_listed(keys.seeds)] * bool(keys.seeds)
    words = _words(options.process, options.interpolation, *faces, keys.labels, *_more(options))
    return Tour(words, len(places), way)


def _faces(space: LatentSpace, keys: Keys) -> tuple[torch.Tensor, list[Label | None], list[str]]:
    """The w of all faces, not truncated, `[N, num_ws, w_dim]`, with the label and the name of each."""
    label = _one_label(keys) if keys.labels else None
    ws: list[torch.Tensor] = []
    names: list[str] = []
    if keys.files:
        latents = read_latents(keys.files, space.generator)
        ws.append(latents.ws.to(space.device))
        names += latents.names
    if keys.seeds:
        assert label is not None
        z = torch.from_numpy(latents_of_seeds(keys.seeds, space.generator.z_dim))
        ws.append(map_latents(space.generator, z, label.weights.expand(len(z), -1)))
        names += [f"seed_{seed}" for seed in keys.seeds]
    return torch.cat(ws), [label] * len(names), names


def _one_label(keys: Keys) -> Label:
    if len(keys.labels) != 1:
        raise FacegenError(f"this takes one class or age, not {len(keys.labels)}")
    return keys.labels[0]


def _psi(options: WalkOptions, count: int) -> torch.Tensor | None:
    """The truncation of each frame; None where it stays."""
    return torch.linspace(options.start, options.stop, count) if options.process == "interpolation-truncation" else None


def _in_folders(tours: list[Tour]) -> list[Tour]:
    """Walks with a folder each; a single one needs none."""
    return tours if len(tours) > 1 else [replace(tour, folder="") for tour in tours]


def _words(*parts: str | Sequence[Label]) -> str:
    """Parts of a video's name; labels are the first and the last one."""
    words = []
    for part in parts:
        if not isinstance(part, str):
            names = [label.name for label in part if label.name]
            part = "_to_".join([*names[:1], *names[1:][-1:]])
        words.append(part)
    return "-".join(word for word in words if word)


def _listed(seeds: Sequence[int]) -> str:
    """`seeds_1_5`; of many the first, the last and how many."""
    if len(seeds) > MAX_NAMES:
        return f"seeds_{seeds[0]}_to_{seeds[-1]}_of_{len(seeds)}"
    return f"seed{'s' * (len(seeds) > 1)}_" + "_".join(map(str, seeds))


def _range(options: WalkOptions) -> str:
    return "" if options.process == "interpolation" else f"start_{options.start:g}-stop_{options.stop:g}"


def _more(options: WalkOptions) -> list[str]:
    """What makes this walk another one than that between the same faces by default."""
    easing = "" if options.easing == "linear" else options.easing
    return [options.space or "", easing, "loop" * options.loop, _range(options)]
