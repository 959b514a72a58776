"""Age transfer: a photo in, its faces at other ages out."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from facegen.ages import AgeGroups
from facegen.aging.edit import Edit, LatentAges, layer_indices
from facegen.aging.refine import refine
from facegen.device import pick_device
from facegen.errors import FacegenError
from facegen.faces.find import UTKFACE_TEMPLATE, AlignmentTemplate, align_face, alignment_matrix, find_faces
from facegen.figures import grids as figures
from facegen.images import to_float, to_rgb
from facegen.networks.age_shift import AgeShift, group_mean_shift
from facegen.networks.latents import group_means
from facegen.weights.load import load_age_estimator, load_encoder, load_generator, read_networks
from facegen.weights.locate import shipped_file

ALL = "all"
PICTURES_AT_ONCE = 64  # what the generator draws in one batch: bounds the memory for many faces and ages
TUNED_AT_ONCE = 8  # faces that have a generator of their own at one time


@dataclass(frozen=True)
class AgedFace:
    """One face at another age. `caption` says the age that was asked for, or the group; `group` is the age's group."""

    caption: str
    age: float
    group: int
    image: Image.Image


@dataclass(frozen=True)
class FaceResult:
    """One face of a photo, and what age transfer made of it; all pictures have the generator's size.

    box: left, top, right, bottom in pixels of the photo.
    matrix: [2, 3], pixels of the photo to pixels of the pictures (`invert_matrix` gives the way back).
    input: the face, aligned as the networks expect it.
    reconstruction: its latent decoded at `input_age`; how close it comes to the input is how far to trust the rest.
    input_age: in years, as given or as estimated; `input_group` is its group.
    latent: what the encoder made of the input, [z_dim] or [num_ws, w_dim].
    """

    box: tuple[float, float, float, float]
    matrix: np.ndarray
    input: Image.Image
    reconstruction: Image.Image
    input_age: float
    input_group: int
    aged: list[AgedFace]
    latent: np.ndarray

    def strip(self, tile: int = 160) -> Image.Image:
        """Input, reconstruction and every age side by side, with captions."""
        pictures = [self.input, self.reconstruction, *(face.image for face in self.aged)]
        return figures.age_strip(
            pictures, ["input", "reconstruction", *(face.caption for face in self.aged)], tile=tile
        )


@dataclass(frozen=True)
class Rendered:
    """What `AgeTransfer.render` made of N faces at A ages, on the networks' device.

    reconstructions: float32 [N, 3, S, S], about -1..1: the faces as the generator sees them, at their own ages.
    aged: [N, A, 3, S, S].
    input_ages: [N], years, as given or as estimated.
    latents: what the encoder made of the faces, [N, z_dim] or [N, num_ws, w_dim].
    """

    reconstructions: torch.Tensor
    aged: torch.Tensor
    input_ages: torch.Tensor
    latents: torch.Tensor


class AgeTransfer:
    """Changes the age of faces: encode a face to its latent, move the latent to another age, decode it.

    Args:
        generator: Conditional on age groups.
        encoder: Trained for this generator.
        groups: The generator's age groups; None for the ten default ones.
        template: How its training faces were aligned; None for UTKFace's way.
        age_shift: How ages differ in w, as trained with the encoder; None for the difference of the groups' means.
        age_estimator: Tells the age of a face that comes without one, and is one of the judges of a refinement.
            None does without; then an encoder of w needs to be told the ages.
        device: None takes a GPU when there is one.

    Example:
        >>> import facegen
        >>> from facegen.faces.find import open_photo
        >>> transfer = facegen.AgeTransfer.from_files()
        >>> for face in transfer.transfer(open_photo("photo.jpg"), ages=[5, 45, 85]):
        ...     face.strip().save("strip.png")
    """

    def __init__(
        self,
        generator: nn.Module,
        encoder: nn.Module,
        *,
        groups: AgeGroups | None = None,
        template: AlignmentTemplate | None = None,
        age_shift: AgeShift | None = None,
        age_estimator: nn.Module | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        groups = AgeGroups.default() if groups is None else groups
        if generator.c_dim == 0:
            raise FacegenError("this generator knows no age groups: train one with --cond")
        if generator.c_dim != len(groups):
            raise FacegenError(f"the generator has {generator.c_dim} classes, but there are {len(groups)} age groups")
        _check_pair(generator, encoder, age_shift)
        self.device = pick_device(device)
        self.generator = generator.to(self.device).eval()
        self.encoder = encoder.to(self.device).eval()
        self.age_estimator = None if age_estimator is None else age_estimator.to(self.device).eval()
        self.groups = groups
        self.template = UTKFACE_TEMPLATE if template is None else template
        self.middles = [float(groups.middle_age(index)) for index in range(len(groups))]
        means = group_means(self.generator)
        shift = group_mean_shift(means, generator.num_ws, self.middles) if age_shift is None else age_shift
        self.latent_ages = LatentAges(self.generator, encoder.target, shift.to(self.device), self.middles, means)

    @classmethod
    def from_files(
        cls,
        generator: str | os.PathLike[str] | None = None,
        encoder: str | os.PathLike[str] | None = None,
        *,
        age_estimator: str | os.PathLike[str] | None = None,
        device: str | torch.device | None = None,
    ) -> AgeTransfer:
        """Load the networks; None for the ones that come with the package.

        Weights are what `facegen.load_generator` takes: files of any kind, run folders, addresses, hub repositories.
        An encoder that was trained by the recipe `tune` brings its generator along, which then is the one for None.

        Raises:
            FileNotFoundError, FacegenError: missing or damaged files, or networks that do not belong together.
        """
        encoder_file = shipped_file("encoder") if encoder is None else encoder
        networks, header = read_networks(encoder_file)
        if "encoder" not in networks:
            load_encoder(encoder_file)  # says so
        generator_network = networks.get("G_ema")
        if generator is not None or generator_network is None:
            generator_network, header = load_generator(shipped_file("generator") if generator is None else generator)
        return cls(
            generator_network,
            networks["encoder"],
            groups=header.groups,
            template=header.template,
            age_shift=networks.get("age_shift"),
            age_estimator=load_age_estimator(shipped_file("age") if age_estimator is None else age_estimator)[0],
            device=device,
        )

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.generator.img_resolution

    def to_tensor(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Aligned faces as `render` takes them, float `[N, 3, S, S]`; they are resized to the generator's size."""
        sized = [to_rgb(image).resize((self.size, self.size), Image.Resampling.LANCZOS) for image in images]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in sized])).to(self.device)
        return to_float(pixels.permute(0, 3, 1, 2))

    def encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Latents of aligned faces, [N, z_dim] or [N, num_ws, w_dim]; they are resized to the generator's size."""
        with torch.no_grad():
            return self.encoder(self.to_tensor(images))

    def decode(
        self, latent: torch.Tensor, ages: Sequence[float], *, input_age: float | None = None, edit: Edit | None = None
    ) -> list[Image.Image]:
        """The face of one latent at each of the ages (years).

        Args:
            latent: Of `encode`, without the first dimension.
            ages: In years.
            input_age: The age of the face that was encoded; needed by all but the method swap.
            edit: Method, layers and psi; a latent has no photo to refine it by.
        """
        edit = Edit() if edit is None else edit
        if input_age is None and (self.latent_ages.method(edit) != "swap" or edit.layers is not None):
            raise FacegenError(
                "to move a latent in w, or in some layers, input_age must be known: the age it comes from"
            )
        wanted = self._checked(self._wanted(ages)[1])
        own = wanted[:1] if input_age is None else self._checked([input_age])
        with torch.no_grad():
            latents = latent[None].to(self.device)
            start = self.latent_ages.place(latents, own, edit.psi)[:, None]
            ws = start + self.latent_ages.steps(latents, own, wanted, edit)
            return _pictures(self._draw(self.generator, ws[0]))

    def group_of(self, age: float) -> int:
        """The index of the group an age belongs to, or lies closest to; a FacegenError for an age beyond all groups."""
        if not math.isfinite(age):
            raise FacegenError(f"age {age} is no number of years")
        group = self.groups.index_of(int(age)) if age >= 0 else None
        if group is None and not self.groups.bounds[0][0] <= age <= (self.groups.bounds[-1][1] or age):
            raise FacegenError(f"age {age:g} is in none of this generator's groups: {', '.join(self.groups.labels)}")
        return int(np.argmin([abs(middle - age) for middle in self.middles])) if group is None else group

    def render(
        self,
        faces: torch.Tensor,
        ages: Sequence[float] | str,
        *,
        input_ages: Sequence[float] | None = None,
        edit: Edit | None = None,
        progress: bool = False,
    ) -> Rendered:
        """Show aligned faces at other ages.

        Args:
            faces: float `[N, 3, S, S]` in -1..1, of the generator's size.
            ages: Years, the same for every face; or "all" for the middle of every group. Between the middle ages of
                two groups the face is between both.
            input_ages: Years, one for each face. None: estimated by the age estimator; without one, an encoder of z
                takes the group whose picture comes closest to the face (least squares over the pixels).
            edit: How; None for `Edit()`.
            progress: Show a bar where it takes long, which is when faces are refined.

        Raises:
            FacegenError: shapes, ages or a method that do not fit, or no age and no age estimator.
        """
        edit = Edit() if edit is None else edit
        if faces.ndim != 4 or faces.shape[1:] != (3, self.size, self.size) or len(faces) == 0:
            raise FacegenError(f"faces are [N, 3, {self.size}, {self.size}], at least one, got {list(faces.shape)}")
        if input_ages is not None and len(input_ages) != len(faces):
            raise FacegenError(f"{len(input_ages)} input ages for {len(faces)} faces: give one for each")
        known = None if input_ages is None else self._checked(input_ages)
        self.check(ages, input_age=None if known is None else float(known[0]), edit=edit)
        wanted = self._checked(self._wanted(ages)[1])
        faces = faces.to(self.device, torch.float32)
        with torch.no_grad():
            latents = self.encoder(faces)
            own = self._estimate_ages(faces, latents) if known is None else known
            start = self.latent_ages.place(latents, own, edit.psi)
            steps = self.latent_ages.steps(latents, own, wanted, edit)
            if edit.refine == 0:
                reconstructions = self._draw(self.generator, start)
                aged = self._draw(self.generator, (start[:, None] + steps).flatten(0, 1))
                return Rendered(reconstructions, aged.unflatten(0, steps.shape[:2]), own, latents)
        parts = [
            self._render_refined(*part, edit, progress)
            for part in zip(
                faces.split(TUNED_AT_ONCE), start.split(TUNED_AT_ONCE), steps.split(TUNED_AT_ONCE), strict=True
            )
        ]
        reconstructions, aged = (torch.cat(part) for part in zip(*parts, strict=True))
        return Rendered(reconstructions, aged, own, latents)

    def _render_refined(
        self, faces: torch.Tensor, start: torch.Tensor, steps: torch.Tensor, edit: Edit, progress: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstructions and aged faces of generators that are tuned to each of the faces."""
        pivots, generators = refine(
            self.generator,
            faces,
            start,
            steps=edit.refine,
            seconds=edit.refine_seconds,
            moves=steps,
            estimator=self.age_estimator,
            progress=progress,
        )
        drawn = []
        with torch.no_grad():
            for generator, pivot, face_steps in zip(generators, pivots, steps, strict=True):
                drawn.append(self._draw(generator, torch.cat([pivot[None], pivot + face_steps])))
        pictures = torch.stack(drawn)
        return pictures[:, 0], pictures[:, 1:]

    def check(self, ages: Sequence[float] | str, *, input_age: float | None = None, edit: Edit | None = None) -> None:
        """Raise a FacegenError for a request that no photo can fulfil: an age, method or layer that is not there."""
        edit = Edit() if edit is None else edit
        self._wanted(ages)
        if input_age is not None:
            self._checked([input_age])
        elif self.age_estimator is None and self.encoder.target != "z":
            raise FacegenError(
                f"an encoder that predicts {self.encoder.target} must know the age of the face: "
                "give --input-age YEARS, or --age-estimator FILE"
            )
        self.latent_ages.method(edit)
        layer_indices(edit.layers, self.generator.num_ws)

    def transfer(
        self,
        image: Image.Image,
        ages: Sequence[float] | str = ALL,
        *,
        input_age: float | None = None,
        faces: str = ALL,
        edit: Edit | None = None,
        progress: bool = False,
    ) -> list[FaceResult]:
        """Find the faces in a photo and show each at other ages; largest face first, none found: an empty list.

        Args:
            image: Any photo (see `facegen.faces.find.open_photo`).
            ages: Years; or "all" for the middle of every group.
            input_age: The age in the photo, if known; see `render`.
            faces: "all" or "largest".
            edit, progress: See `render`.
        """
        self.check(ages, input_age=input_age, edit=edit)  # before the search, which takes longest
        if faces not in (ALL, "largest"):
            raise FacegenError(f"faces is 'all' or 'largest', not {faces!r}")
        image = to_rgb(image)  # once, not for the search and for every face
        found = find_faces(image)
        chosen = found if faces == ALL else found[:1]
        aligned = [align_face(image, face, self.template, self.size) for face in chosen]
        places = [(face.box, alignment_matrix(face, self.template, self.size)) for face in chosen]
        return self._results(aligned, places, ages, input_age, edit, progress)

    def transfer_aligned(
        self,
        image: Image.Image,
        ages: Sequence[float] | str = ALL,
        *,
        input_age: float | None = None,
        edit: Edit | None = None,
        progress: bool = False,
    ) -> FaceResult:
        """As `transfer`, for a square picture that is aligned already, such as one of the training archive."""
        image = to_rgb(image)
        matrix = np.array([[self.size / image.width, 0, 0], [0, self.size / image.height, 0]])
        aligned = image.resize((self.size, self.size), Image.Resampling.LANCZOS)
        box = (0.0, 0.0, float(image.width), float(image.height))
        return self._results([aligned], [(box, matrix)], ages, input_age, edit, progress)[0]

    def _results(
        self,
        aligned: Sequence[Image.Image],
        places: Sequence[tuple[tuple[float, float, float, float], np.ndarray]],
        ages: Sequence[float] | str,
        input_age: float | None,
        edit: Edit | None,
        progress: bool,
    ) -> list[FaceResult]:
        """Render aligned faces, whose boxes and matrices are `places`."""
        captions, years = self._wanted(ages)
        if not aligned:
            return []
        given = None if input_age is None else [input_age] * len(aligned)
        rendered = self.render(self.to_tensor(aligned), years, input_ages=given, edit=edit, progress=progress)
        groups = [self.group_of(age) for age in years]
        results = []
        for index, (picture, (box, matrix)) in enumerate(zip(aligned, places, strict=True)):
            own = round(float(rendered.input_ages[index]), 1)
            pictures = _pictures(rendered.aged[index])
            aged = [AgedFace(*face) for face in zip(captions, years, groups, pictures, strict=True)]
            (reconstruction,) = _pictures(rendered.reconstructions[index : index + 1])
            latent = rendered.latents[index].cpu().numpy()
            results.append(FaceResult(box, matrix, picture, reconstruction, own, self.group_of(own), aged, latent))
        return results

    def _wanted(self, ages: Sequence[float] | str) -> tuple[list[str], list[float]]:
        """Caption and years of every face to make."""
        if isinstance(ages, str):
            if ages != ALL:
                raise FacegenError(f"ages are numbers of years, or {ALL!r}, not {ages!r}")
            return list(self.groups.labels), self.middles
        self._checked(ages)
        years = list(dict.fromkeys(round(float(age), 6) for age in ages))  # an age twice is one picture
        return [f"age {age:.6f}".rstrip("0").rstrip(".") for age in years], years

    def _checked(self, ages: Sequence[float]) -> torch.Tensor:
        """Ages as a tensor `[A]`; a FacegenError for ages beyond the groups, and for none."""
        if len(ages) == 0:
            raise FacegenError("no ages given: name at least one, or 'all'")
        for age in ages:
            self.group_of(age)
        return torch.tensor([float(age) for age in ages], device=self.device)

    def _estimate_ages(self, faces: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """The faces' own ages `[N]`, as far as anything here can tell, within the generator's groups."""
        if self.age_estimator is not None:
            return self.age_estimator.predict(faces).clamp(self.middles[0], self.middles[-1])
        middles = torch.tensor(self.middles, device=self.device)
        every = self.latent_ages.place(latents.repeat_interleave(len(middles), dim=0), middles.repeat(len(latents)))
        drawn = self._draw(self.generator, every).unflatten(0, (len(latents), len(middles)))
        return middles[(drawn - faces[:, None]).square().mean(dim=(2, 3, 4)).argmin(dim=1)]

    @staticmethod
    def _draw(generator: nn.Module, ws: torch.Tensor) -> torch.Tensor:
        """Colour pictures `[N, 3, S, S]` of ws `[N, num_ws, w_dim]`, with constant noise."""
        drawn = [generator.synthesis(part, noise_mode="const") for part in ws.split(PICTURES_AT_ONCE)]
        return torch.cat(drawn).expand(-1, 3, -1, -1)


def save_results(results: Sequence[FaceResult], outdir: str | os.PathLike[str], stem: str) -> list[Path]:
    """Write each face's aged pictures and its strip; the paths, the strip of a face after its pictures.

    Files are called `<stem>-face1-<age or group>.png` and `<stem>-face1-strip.png`.
    """
    paths = []
    for number, result in enumerate(results, start=1):
        prefix = f"{stem}-face{number}"
        for face in result.aged:
            name = f"{prefix}-{face.caption.replace(' ', '')}.png"
            paths.append(figures.save_picture(face.image, Path(outdir) / name))
        paths.append(figures.save_picture(result.strip(), Path(outdir) / f"{prefix}-strip.png"))
    return paths


def unique_stems(photos: Sequence[str | os.PathLike[str]]) -> list[str]:
    """A name for the pictures of each photo: its stem, numbered where another photo has the same.

    Letter case does not tell two names apart, as on some file systems.
    """
    taken: set[str] = set()
    stems = []
    for photo in photos:
        base = stem = Path(photo).stem
        number = 1
        while stem.casefold() in taken:
            number += 1
            stem = f"{base}-{number}"
        taken.add(stem.casefold())
        stems.append(stem)
    return stems


def _check_pair(generator: nn.Module, encoder: nn.Module, age_shift: AgeShift | None) -> None:
    """Raise a FacegenError for networks that were not made for each other."""
    advice = "do not belong together: train the encoder for this generator"
    if encoder.target == "z" and generator.z_dim != encoder.z_dim:
        raise FacegenError(f"generator (z of {generator.z_dim}) and encoder (z of {encoder.z_dim}) {advice}")
    own, theirs = (generator.num_ws, generator.w_dim), (encoder.num_ws, encoder.z_dim)
    if encoder.target != "z" and own != theirs:
        raise FacegenError(
            f"generator (w of {own[0]} x {own[1]}) and encoder (w of {theirs[0]} x {theirs[1]}) {advice}"
        )
    if age_shift is not None and age_shift.table.shape != (generator.c_dim, *own):
        raise FacegenError(
            f"generator ({generator.c_dim} groups, w of {own[0]} x {own[1]}) and age shift "
            f"({list(age_shift.table.shape)}) {advice}"
        )


def _pictures(images: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(image) for image in figures.to_pixels(images)]
