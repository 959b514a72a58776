"""Age transfer: a photo in, its faces at other ages out.

`AgeTransfer._render` is the method: encode a face, place it in w at its own age, step to other ages, draw. Read on in
`ages_in_w` (how an age becomes a step in w), `refine` (closer to one face), `paste` (back into the photo), `results`
and `video`; `editing` is the other method, an editor. `facegen.batch` writes the files.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import nn

from facegen.ages import AgeGroups
from facegen.aging.ages_in_w import LatentAges
from facegen.aging.drawing import drawn_faces, drawn_pictures
from facegen.aging.edit import ALL, Age, Edit, group_of, layer_indices, wanted_ages
from facegen.aging.editing import (
    EDITOR_FIRST,
    TOO_SMALL,
    PhotoEditor,
    check_edit,
    edit_faces,
    is_too_small,
    of_generator_only,
)
from facegen.aging.paste import paste_results
from facegen.aging.refine import Report, refine
from facegen.aging.results import AgedPhoto, FaceResult
from facegen.aging.strength import Change, least_strengths
from facegen.device import pick_device
from facegen.errors import FacegenError
from facegen.faces.align import align_face, completed, in_photo
from facegen.faces.find import find_faces
from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate, Face, alignment_matrix
from facegen.images import open_photo, to_float, to_rgb, upright_to_cut, upright_with_alpha
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.age_shift import AgeShift, group_mean_shift
from facegen.networks.editor import Editor
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.networks.latents import draw, group_means
from facegen.photos.original import open_original
from facegen.status import status
from facegen.weights.load import load_age_estimator, load_editor, load_generator, read_networks
from facegen.weights.locate import locate, shipped_editor, shipped_file
from facegen.weights.native import tensors_checksum
from facegen.weights.trained_for import check_same_faces, check_trained_for, own_generator

PICTURES_AT_ONCE = 64  # what the generator draws in one batch: bounds the memory for many faces and ages
TUNED_AT_ONCE = 8  # faces that have a generator of their own at one time


@dataclass(frozen=True)
class Rendered:
    """What `AgeTransfer.render` made of N faces at A ages, on the networks' device.

    reconstructions: float32 [N, 3, S, S], about -1..1: the faces as the generator sees them, at their own ages.
    aged: [N, A, 3, S, S].
    input_ages: [N], years, as given or estimated.
    latents: what the encoder made of the faces, [N, z_dim] or [N, num_ws, w_dim].
    """

    reconstructions: torch.Tensor
    aged: torch.Tensor
    input_ages: torch.Tensor
    latents: torch.Tensor

    def part(self, start: int, end: int) -> Rendered:
        """What belongs to some of the faces."""
        some = slice(start, end)
        return Rendered(self.reconstructions[some], self.aged[some], self.input_ages[some], self.latents[some])


class AgeTransfer:
    """Changes the age of faces: encode a face to its latent, move the latent to another age, decode it.

    Args:
        generator: A generator that is conditional on age groups.
        encoder: An encoder trained for this generator.
        groups: The generator's age groups; None for the ten default ones.
        template: How its training faces were aligned; None means like UTKFace.
        age_shift: How ages differ in w, as learned with the encoder; None uses the difference of the groups' means.
        age_estimator: Estimates the age of a face when it is not given, and guides refinement. With None, an encoder of
            w needs the ages.
        editor: For the method `editor`; trained on faces aligned like the generator's.
        device: None uses a GPU if there is one.

    Example:
        >>> import facegen
        >>> transfer = facegen.AgeTransfer.from_files()
        >>> photos, faces = transfer.transfer("photo.jpg", ages=[25, 65])
        >>> photos[1].save("at65.jpg")
        >>> faces[0].strip().save("strip.png")
    """

    @torch.inference_mode(False)  # so that faces can be refined whatever mode it is made in
    def __init__(
        self,
        generator: Generator,
        encoder: Encoder,
        *,
        groups: AgeGroups | None = None,
        template: AlignmentTemplate | None = None,
        age_shift: AgeShift | None = None,
        age_estimator: AgeEstimator | None = None,
        editor: Editor | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        groups = AgeGroups.default() if groups is None else groups
        if generator.c_dim == 0:
            raise FacegenError("this generator has no age groups: train one with --cond")
        if generator.c_dim != len(groups):
            raise FacegenError(f"the generator has {generator.c_dim} classes, but there are {len(groups)} age groups")
        _check_pair(generator, encoder, age_shift)
        self.device = pick_device(device)
        self.generator = generator.to(self.device).eval()
        self.encoder = encoder.to(self.device).eval()
        self.age_estimator = None if age_estimator is None else age_estimator.to(self.device).eval()
        self.groups = groups
        self.template = UTKFACE_TEMPLATE if template is None else template
        self.editor = None if editor is None else PhotoEditor(editor.to(self.device).eval(), self.template)
        middles = [float(groups.middle_age(index)) for index in range(len(groups))]
        means = group_means(self.generator)
        shift = group_mean_shift(means, generator.num_ws, middles) if age_shift is None else age_shift
        self.latent_ages = LatentAges(self.generator, encoder.target, shift.to(self.device), middles, means)

    @classmethod
    @torch.inference_mode(False)
    def from_files(
        cls,
        generator: str | os.PathLike[str] | None = None,
        encoder: str | os.PathLike[str] | None = None,
        *,
        age_estimator: str | os.PathLike[str] | None = None,
        editor: str | os.PathLike[str] | None = None,
        groups: AgeGroups | None = None,
        device: str | torch.device | None = None,
    ) -> AgeTransfer:
        """Load the networks; None means those in the package (which may lack an editor).

        Weights may be anything that `facegen.load_generator` takes: files, run folders, URLs, hub repositories.
        `groups` are the age groups of a generator whose file does not name them, see `Header.groups_of`. If only an
        encoder is given, the generator that it was trained for is used.

        Raises:
            FileNotFoundError, FacegenError: missing or damaged files, or networks that do not belong together.
        """
        encoder_file = shipped_file("encoder") if encoder is None else locate(encoder)
        networks, about_encoder = read_networks(encoder_file)
        encoder_network, age_shift = networks.get("encoder"), networks.get("age_shift")
        if not isinstance(encoder_network, Encoder):
            raise FacegenError(f"{encoder_file}: holds {', '.join(networks) or 'nothing'}, but no encoder")
        generator_file = own_generator(encoder_file) if generator is None else generator
        generator_network, header = load_generator(generator_file)
        check_trained_for(generator_network, encoder_file, networks, about_encoder, str(generator_file))
        known = header.groups_of(generator_network.c_dim, groups) if generator_network.c_dim else AgeGroups.default()
        return cls(
            generator_network,
            encoder_network,
            groups=known,
            template=header.template,
            age_shift=age_shift if isinstance(age_shift, AgeShift) else None,
            age_estimator=load_age_estimator(shipped_file("age") if age_estimator is None else age_estimator)[0],
            editor=_fitting_editor(editor, known, header.template or UTKFACE_TEMPLATE),
            device=device,
        )

    @property
    def size(self) -> int:
        """Side of the pictures in pixels."""
        return self.generator.img_resolution

    def checksum(self, edit: Edit) -> str:
        """The SHA-256, in hex, of the networks and age groups: what results depend on besides photo and request."""
        networks: dict[str, nn.Module | None] = {
            "encoder": self.encoder,
            "generator": self.generator,
            "shift": self.latent_ages.shift,
            "age": self.age_estimator,
        }
        if self.editor is not None and self.method(edit) == "editor":
            networks["editor"] = self.editor.network
        tensors = {
            f"{name}.{key}": tensor.cpu()
            for name, network in networks.items()
            if network is not None
            for key, tensor in network.state_dict().items()
        }
        return tensors_checksum(tensors | {", ".join(self.groups.labels): torch.empty(0)})

    def to_tensor(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """Turn aligned faces into a tensor for `render`, float `[N, 3, S, S]`, resized to the generator's size."""
        sized = [to_rgb(image).resize((self.size, self.size), Image.Resampling.LANCZOS) for image in images]
        pixels = torch.from_numpy(np.stack([np.asarray(image) for image in sized])).to(self.device)
        return to_float(pixels.permute(0, 3, 1, 2))

    def render(
        self,
        faces: torch.Tensor,
        ages: Sequence[float] | str,
        *,
        input_ages: Sequence[float] | None = None,
        edit: Edit | None = None,
        progress: bool | Report = False,
    ) -> Rendered:
        """Show aligned faces at other ages.

        Args:
            faces: float `[N, 3, S, S]` in -1..1, of the generator's size.
            ages: Years, the same for every face; or "all" for the middle of every group. Ages between the middles of
                two groups are interpolated.
            input_ages: Years, one for each face. None: estimated by the age estimator; without one, an encoder of z
                uses the group whose picture is closest to the face (least squares over the pixels).
            edit: How; None for `Edit()`.
            progress: Show a progress bar while faces are refined; or a function, see `refine`.

        Raises:
            FacegenError: shapes, ages or a method that do not fit, or neither an age nor an age estimator.
        """
        edit = self._of_generator(edit)
        if faces.ndim != 4 or faces.shape[1:] != (3, self.size, self.size) or len(faces) == 0:
            raise FacegenError(f"faces are [N, 3, {self.size}, {self.size}], at least one, got {list(faces.shape)}")
        if input_ages is not None and len(input_ages) != len(faces):
            raise FacegenError(f"{len(input_ages)} input ages for {len(faces)} faces: give one for each")
        wanted = self.check(ages, input_ages=input_ages, edit=edit)
        return self._render(faces.to(self.device, torch.float32), wanted, input_ages, edit, progress)

    @torch.inference_mode(False)
    @torch.no_grad()
    def _render(
        self,
        faces: torch.Tensor,
        ages: Sequence[Age],
        input_ages: Sequence[float] | None,
        edit: Edit,
        progress: bool | Report,
    ) -> Rendered:
        """Encode, place, step, draw: the method. Arguments as for `render`, checked."""
        faces = faces.clone() if faces.is_inference() else faces
        latents = self.encoder(faces)
        own = self._estimate_ages(faces, latents) if input_ages is None else self._years(input_ages)
        start = self.latent_ages.place(latents, own, edit.psi)
        steps = self.latent_ages.steps(latents, own, self._years(age.years for age in ages), edit)
        if edit.refine:
            reconstructions, aged = self._draw_refined(faces, start, steps, edit, progress)
        else:
            reconstructions = _draw_many(self.generator, start)
            aged = _draw_many(self.generator, (start[:, None] + steps).flatten(0, 1)).unflatten(0, steps.shape[:2])
        return Rendered(reconstructions, aged, own, latents)

    def _draw_refined(
        self, faces: torch.Tensor, start: torch.Tensor, steps: torch.Tensor, edit: Edit, progress: bool | Report
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstructions and aged faces, each drawn by a generator that is tuned to its face."""
        drawn = []
        for part in range(0, len(faces), TUNED_AT_ONCE):
            some = slice(part, part + TUNED_AT_ONCE)
            pivots, generators = refine(
                self.generator,
                faces[some],
                start[some],
                steps=edit.refine,
                seconds=edit.refine_seconds,
                moves=steps[some],
                estimator=self.age_estimator,
                progress=progress,
                first=part,
                count=len(faces),
            )
            for generator, pivot, face_steps in zip(generators, pivots, steps[some], strict=True):
                drawn.append(_draw_many(generator, torch.cat([pivot[None], pivot + face_steps])))
        pictures = torch.stack(drawn)
        return pictures[:, 0], pictures[:, 1:]

    def _estimate_ages(self, faces: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """The faces' estimated ages `[N]`, within the generator's groups."""
        middles = self._years(self.latent_ages.middles)
        if self.age_estimator is not None:
            return self.age_estimator.predict(faces).clamp(middles[0], middles[-1])
        every = self.latent_ages.place(latents.repeat_interleave(len(middles), dim=0), middles.repeat(len(latents)))
        drawn = _draw_many(self.generator, every).unflatten(0, (len(latents), len(middles)))
        return middles[(drawn - faces[:, None]).square().mean(dim=(2, 3, 4)).argmin(dim=1)]

    def _years(self, ages: Iterable[float]) -> torch.Tensor:
        return torch.tensor([float(age) for age in ages], dtype=torch.float32, device=self.device)

    @torch.no_grad()
    def decode(
        self, latent: torch.Tensor, ages: Sequence[float], *, input_age: float | None = None, edit: Edit | None = None
    ) -> list[Image.Image]:
        """Show one latent, such as that of a `FaceResult`, at other ages.

        Args:
            latent: [z_dim] or [num_ws, w_dim], from the encoder.
            ages: Years.
            input_age: The age of the face that was encoded; needed by every method except swap.
            edit: Method, layers and psi; a latent has no photo to be refined with.
        """
        edit = self._of_generator(edit)
        if input_age is None and (self.latent_ages.method(edit) != "swap" or edit.layers is not None):
            raise FacegenError("to move a latent in w, or in some layers, give input_age, the age to start from")
        wanted = self.check(ages, input_ages=None if input_age is None else [input_age], edit=edit)
        years = self._years(age.years for age in wanted)
        own = years[:1] if input_age is None else self._years([input_age])
        latents = latent[None].to(self.device)
        start = self.latent_ages.place(latents, own, edit.psi)[:, None]
        ws = start + self.latent_ages.steps(latents, own, years, edit)
        return drawn_pictures(_draw_many(self.generator, ws[0]))

    def transfer(
        self,
        image: Image.Image | str | os.PathLike[str],
        ages: Sequence[float] | str = ALL,
        *,
        input_age: float | Sequence[float] | None = None,
        faces: str = ALL,
        edit: Edit | None = None,
        progress: bool | Report = False,
    ) -> AgedPhoto:
        """Return the photo, and each face found in it, at other ages; without a face, both lists are empty.

        Arguments are those of `age_faces`. `paste_results` makes the same photos one by one.
        """
        photo = open_original(image).image if isinstance(image, (str, os.PathLike)) else image
        results = self.age_faces(photo, ages, input_age=input_age, faces=faces, edit=edit, progress=progress)
        upright = upright_with_alpha(photo)
        photos = [picture for _, picture in paste_results(upright, results, template=self.template)]
        return AgedPhoto(photos, results)

    def age_faces(
        self,
        image: Image.Image | str | os.PathLike[str],
        ages: Sequence[float] | str = ALL,
        *,
        input_age: float | Sequence[float] | None = None,
        faces: str = ALL,
        edit: Edit | None = None,
        progress: bool | Report = False,
    ) -> list[FaceResult]:
        """Find the faces in a photo and draw each at other ages, largest face first; an empty list if there are none.

        Args:
            image: Any photo (see `facegen.images.open_photo`), or its file.
            ages: Years; or "all" for the middle of every group.
            input_age: The age in the photo, if known; for several faces one each, largest first.
            faces: "all" or "largest".
            edit: See `render`.
            progress: Report progress on the terminal; see `render`.
        """
        # Upright once, not for the search and for every face.
        image = upright_to_cut(open_photo(image) if isinstance(image, (str, os.PathLike)) else image)
        self.check(ages, input_ages=None if input_age is None else np.atleast_1d(input_age).tolist(), edit=edit)
        with status("looking for faces ...", progress is True):
            found = chosen_faces(find_faces(image), faces)
        self.check_found(found, edit)
        return self.age_found([image], [found], ages, input_age=input_age, edit=edit, progress=progress)[0]

    def age_found(
        self,
        images: Sequence[Image.Image],
        found: Sequence[Sequence[Face]],
        ages: Sequence[float] | str = ALL,
        *,
        input_age: float | Sequence[float] | None = None,
        edit: Edit | None = None,
        progress: bool | Report = False,
    ) -> list[list[FaceResult]]:
        """Draw faces that were found in photos at other ages, all photos at once.

        Args:
            images: Upright photos; their faces are in `found`, see `find_faces_batch`.
            ages, edit, progress: See `age_faces`.
            input_age: The age of the face in each photo; of several faces one for each, the same for every photo.
        """
        edit = edit or Edit()
        given = None if input_age is None else np.atleast_1d(input_age).tolist()
        wanted = self.check(ages, input_ages=given, edit=edit)
        for faces in found:
            if faces:
                check_count(given, len(faces))
        photos = [upright_to_cut(image) for image in images]
        if self.method(edit) == "editor":
            with status("editing faces ...", progress is True):
                pairs = zip(photos, found, strict=True)
                return [edit_faces(self, photo, faces, given, wanted, edit) for photo, faces in pairs]
        aligned = [[self.cut_out(photo, face) for face in faces] for photo, faces in zip(photos, found, strict=True)]
        every = [face for of_photo in aligned for face in of_photo]
        if not every:
            return [[] for _ in photos]
        own = None if given is None else given * sum(map(bool, found))
        with status("drawing faces ...", progress is True):
            rendered = self._render(self.to_tensor(every), wanted, own, edit, progress)
        results, first = [], 0
        for photo, faces, inputs in zip(photos, found, aligned, strict=True):
            part = rendered.part(first, first + len(faces))
            results.append(drawn_faces(self, photo, faces, inputs, part, wanted, edit, estimated=given is None))
            first += len(faces)
        return results

    def cut_out(self, photo: Image.Image, face: Face | np.ndarray) -> Image.Image:
        """A face, or its landmarks, as the encoder sees it."""
        inside = in_photo(alignment_matrix(face, self.template, self.size), self.size, photo.size)
        return completed(align_face(photo, face, self.template, self.size), inside)

    @torch.no_grad()
    def strengths(self, change: Change, ages: Sequence[float], given: float | None) -> tuple[list[float], list[float]]:
        """How much of the change each face and age gets, unless it is given, and how old the face then looks."""
        if self.age_estimator is None or given is not None:
            return [1.0 if given is None else given] * len(ages), [math.nan] * len(ages)
        middles = self.latent_ages.middles
        targets = self._years(ages).clamp(middles[0], middles[-1])
        return least_strengths(self.age_estimator, self.to_tensor([change.seen]), change, targets)

    @torch.no_grad()
    def estimate_ages(self, faces: Sequence[Image.Image]) -> list[float]:
        """How old aligned faces look, in years."""
        tensor = self.to_tensor(faces)
        return self._estimate_ages(tensor, self.encoder(tensor) if self.age_estimator is None else tensor).tolist()

    def method(self, edit: Edit) -> str:
        """How an edit changes faces of photos: `swap`, `shift` or `editor`."""
        if edit.method is None and EDITOR_FIRST and self.editor is not None and not of_generator_only(edit):
            return "editor"
        return "editor" if edit.method == "editor" else self.latent_ages.method(edit)

    def _of_generator(self, edit: Edit | None) -> Edit:
        """The edit with the method by which the generator follows it; a FacegenError where it is an editor's."""
        edit = edit or Edit()
        return replace(edit, method=self.latent_ages.method(edit))

    def check(
        self, ages: Sequence[float] | str, *, input_ages: Sequence[float] | None = None, edit: Edit | None = None
    ) -> list[Age]:
        """Return the ages to show; arguments as for `render`.

        Raises a FacegenError for a request that is impossible: an age, method or layer that does not exist.
        """
        edit = edit or Edit()
        wanted = wanted_ages(ages, self.groups)
        for age in input_ages or ():
            group_of(age, self.groups)
        if input_ages is None and self.age_estimator is None and self.encoder.target != "z":
            raise FacegenError(
                f"an encoder that predicts {self.encoder.target} must know the age of the face: "
                "give --input-age YEARS, or --age-estimator FILE"
            )
        if self.method(edit) == "editor":
            check_edit(self.editor, edit, [*(input_ages or ()), *(age.years for age in wanted)])
            return wanted
        layer_indices(edit.layers, self.generator.num_ws)
        if missing := [name for name in edit.hold or () if name not in self.latent_ages.shift.holds]:
            raise FacegenError(f"this encoder cannot hold the {missing[0]}: train one that can, or use --hold none")
        return wanted

    def check_found(self, faces: Sequence[Face], edit: Edit | None = None) -> None:
        """Raise a FacegenError if none of the faces in a photo is large enough to be changed."""
        if self.method(edit or Edit()) == "editor" and faces and all(is_too_small(f, self.template) for f in faces):
            raise FacegenError(TOO_SMALL)


def chosen_faces(found: Sequence[Face], which: str) -> list[Face]:
    """All faces of a photo, or the largest; the first is the largest."""
    if which not in (ALL, "largest"):
        raise FacegenError(f"faces is 'all' or 'largest', not {which!r}")
    return list(found) if which == ALL else list(found[:1])


def check_count(given: Sequence[float] | None, faces: int) -> None:
    """Raise a FacegenError if ages are given, but not one for each face."""
    if given is not None and len(given) != faces:
        raise FacegenError(
            f"{len(given)} input age{'s' * (len(given) > 1)} for {faces} face{'s' * (faces > 1)}: give one for "
            "each, largest first, as in --input-age 40,8, or choose one face with --face largest"
        )


def _fitting_editor(
    reference: str | os.PathLike[str] | None, groups: AgeGroups, template: AlignmentTemplate
) -> Editor | None:
    """The editor of a file; None for the one in the package, if there is one and it was trained on such faces."""
    file = shipped_editor() if reference is None else reference
    if file is None:
        return None
    editor, header = load_editor(file)
    try:
        check_same_faces(header, groups, template, str(file))
    except FacegenError:
        if reference is not None:
            raise
        return None  # it is for the generator in the package
    return editor


def _check_pair(generator: Generator, encoder: Encoder, age_shift: AgeShift | None) -> None:
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


def _draw_many(generator: Generator, ws: torch.Tensor) -> torch.Tensor:
    """As `draw`, in batches."""
    return torch.cat([draw(generator, part) for part in ws.split(PICTURES_AT_ONCE)])
