"""Age transfer: a photo in, its faces at other ages out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.nn import functional

from facegen import figures
from facegen.ages import AgeGroups
from facegen.device import pick_device
from facegen.errors import FacegenError
from facegen.faces import UTKFACE_TEMPLATE, AlignmentTemplate, align_face, alignment_matrix, find_faces
from facegen.latents.decode import decode_latents, group_means
from facegen.weights.load import load_encoder, load_generator

PRETRAINED = Path(__file__).parent / "pretrained"
ALL = "all"


@dataclass(frozen=True)
class AgedFace:
    """One face in another age group. `caption` says the age that was asked for, or the group."""

    caption: str
    group: int
    image: Image.Image


@dataclass(frozen=True)
class FaceResult:
    """One face of a photo, and what age transfer made of it; all pictures have the generator's size.

    box: left, top, right, bottom in pixels of the photo.
    matrix: [2, 3], pixels of the photo to pixels of the pictures (`facegen.faces.invert_matrix` gives the way back).
    input: the face, aligned as the networks expect it.
    reconstruction: its latent decoded in `input_group`; how close it comes to the input is how far to trust the rest.
    z: [z_dim], the latent.
    """

    box: tuple[float, float, float, float]
    matrix: np.ndarray
    input: Image.Image
    reconstruction: Image.Image
    input_group: int
    aged: list[AgedFace]
    z: np.ndarray

    def strip(self, tile: int = 160) -> Image.Image:
        """Input, reconstruction and every age side by side, with captions."""
        pictures = [self.input, self.reconstruction, *(face.image for face in self.aged)]
        return figures.age_strip(
            pictures, ["input", "reconstruction", *(face.caption for face in self.aged)], tile=tile
        )


class AgeTransfer:
    """Changes the age of faces: encode a face to its latent, decode the latent in another age group.

    Args:
        generator: Conditional on age groups.
        encoder: Trained for this generator.
        groups: The generator's age groups; None for the ten default ones.
        template: How its training faces were aligned; None for UTKFace's way.
        device: None takes a GPU when there is one.

    Example:
        >>> import facegen
        >>> from facegen.faces import open_photo
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
        device: str | torch.device | None = None,
    ) -> None:
        groups = AgeGroups.default() if groups is None else groups
        if generator.c_dim == 0:
            raise FacegenError("this generator knows no age groups: train one with --cond")
        if generator.c_dim != len(groups):
            raise FacegenError(f"the generator has {generator.c_dim} classes, but there are {len(groups)} age groups")
        if generator.z_dim != encoder.z_dim:
            raise FacegenError(
                f"generator (z of {generator.z_dim}) and encoder (z of {encoder.z_dim}) do not belong together: "
                "train the encoder for this generator"
            )
        self.device = pick_device(device)
        self.generator = generator.to(self.device).eval()
        self.encoder = encoder.to(self.device).eval()
        self.means = group_means(self.generator)
        self.groups = groups
        self.template = UTKFACE_TEMPLATE if template is None else template

    @classmethod
    def from_files(
        cls,
        generator_path: str | os.PathLike[str] | None = None,
        encoder_path: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
    ) -> AgeTransfer:
        """Load both networks; None for the ones that come with the package.

        Weights are what `facegen.load_generator` takes: files of any kind, run folders, addresses, hub repositories.

        Raises:
            FileNotFoundError, FacegenError: missing or damaged files, or networks that do not belong together.
        """
        generator, header = load_generator(_shipped("generator") if generator_path is None else generator_path)
        encoder, _ = load_encoder(_shipped("encoder") if encoder_path is None else encoder_path)
        groups = AgeGroups.from_labels(header["groups"]) if header.get("groups") else None
        template = AlignmentTemplate.from_json(header["template"]) if header.get("template") else None
        return cls(generator, encoder, groups=groups, template=template, device=device)

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.generator.img_resolution

    def encode(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Latents [N, z_dim] of aligned faces, which are resized to the generator's size."""
        sized = [image.convert("RGB").resize((self.size, self.size), Image.Resampling.LANCZOS) for image in images]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in sized])).to(self.device)
        with torch.no_grad():
            return self.encoder(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)

    def decode(self, z: torch.Tensor, groups: Iterable[int], *, psi: float = 1.0) -> list[Image.Image]:
        """The face of one latent [z_dim] in each of the age groups, given by their index; see `latents.decode`."""
        indices = torch.as_tensor(list(groups), dtype=torch.int64)
        labels = functional.one_hot(indices, len(self.groups)).float().to(self.device)
        faces = decode_latents(self.generator, z.expand(len(indices), -1), labels, self.means, psi=psi)
        return [Image.fromarray(face).convert("RGB") for face in figures.to_uint8(faces.expand(-1, 3, -1, -1))]

    def group_of(self, age: int) -> int:
        """The index of the group an age belongs to; a FacegenError for an age that no group holds."""
        group = self.groups.index_of(age)
        if group is None:
            raise FacegenError(f"age {age} is in none of this generator's groups: {', '.join(self.groups.labels)}")
        return group

    def transfer(
        self,
        image: Image.Image,
        ages: Sequence[int] | str = ALL,
        *,
        input_age: int | None = None,
        faces: str = ALL,
        psi: float = 1.0,
    ) -> list[FaceResult]:
        """Find the faces in a photo and show each at other ages; largest face first, none found: an empty list.

        Args:
            image: Any photo (see `facegen.faces.open_photo`).
            ages: Years, each shown by the face of its age group; or "all" for every group.
            input_age: The age in the photo, if known. It decides only in which group the reconstruction is decoded:
                the encoder does not know the age. Without it, the group whose picture comes closest to the input
                (least squares over the pixels) is taken.
            faces: "all" or "largest".
            psi: Below 1, faces are drawn towards the mean of their age group.
        """
        self._wanted(ages)  # complain of impossible ages before the search
        if not np.isfinite(psi):
            raise FacegenError(f"psi must be a finite number, got {psi}")
        if faces not in (ALL, "largest"):
            raise FacegenError(f"faces is 'all' or 'largest', not {faces!r}")
        found = find_faces(image)
        results = []
        for face in found if faces == ALL else found[:1]:
            aligned = align_face(image, face, self.template, self.size)
            matrix = alignment_matrix(face, self.template, self.size)
            results.append(self._age(aligned, ages, input_age, psi, face.box, matrix))
        return results

    def transfer_aligned(
        self,
        image: Image.Image,
        ages: Sequence[int] | str = ALL,
        *,
        input_age: int | None = None,
        psi: float = 1.0,
    ) -> FaceResult:
        """As `transfer`, for a square picture that is aligned already, such as one of the training archive."""
        matrix = np.array([[self.size / image.width, 0, 0], [0, self.size / image.height, 0]])
        aligned = image.convert("RGB").resize((self.size, self.size), Image.Resampling.LANCZOS)
        return self._age(aligned, ages, input_age, psi, (0.0, 0.0, float(image.width), float(image.height)), matrix)

    def _age(
        self,
        aligned: Image.Image,
        ages: Sequence[int] | str,
        input_age: int | None,
        psi: float,
        box: tuple[float, float, float, float],
        matrix: np.ndarray,
    ) -> FaceResult:
        """Encode one aligned face and decode it in every group once."""
        wanted = self._wanted(ages)
        known = None if input_age is None else self.group_of(input_age)
        z = self.encode([aligned])[0]
        decoded = self.decode(z, range(len(self.groups)), psi=psi)
        input_group = known if known is not None else _closest(aligned, decoded)
        aged = [AgedFace(caption, group, decoded[group]) for caption, group in wanted]
        return FaceResult(box, matrix, aligned, decoded[input_group], input_group, aged, z.cpu().numpy())

    def _wanted(self, ages: Sequence[int] | str) -> list[tuple[str, int]]:
        """Caption and group of every face to make."""
        if isinstance(ages, str):
            if ages != ALL:
                raise FacegenError(f"ages are numbers of years, or {ALL!r}, not {ages!r}")
            return list(zip(self.groups.labels, range(len(self.groups)), strict=True))
        if len(ages) == 0:
            raise FacegenError("no ages given: name at least one, or 'all'")
        return [(f"age {age}", self.group_of(age)) for age in ages]


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


def _closest(image: Image.Image, candidates: Sequence[Image.Image]) -> int:
    target = np.asarray(image, dtype=np.float32)
    return int(np.argmin([np.square(np.asarray(other, dtype=np.float32) - target).mean() for other in candidates]))


def _shipped(name: str) -> Path:
    path = PRETRAINED / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: the {name} that comes with facegen is missing; install facegen again, or pass --{name} FILE"
        )
    return path
