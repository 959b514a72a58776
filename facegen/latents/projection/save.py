"""From targets to files: project them, write what was found, and show it at other ages."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from facegen.aging.ages_in_w import LatentAges
from facegen.aging.edit import Age, Edit, wanted_ages
from facegen.aging.transfer import AgeTransfer
from facegen.aging.video import save_morph, save_video
from facegen.errors import FacegenError
from facegen.figures.grids import age_strip
from facegen.files import atomic_path
from facegen.latents.files import save_latents
from facegen.latents.generate import as_image
from facegen.latents.projection.options import ProjectionOptions
from facegen.latents.projection.project import Judge, Likeness, MeanW, Projection, mean_w, project
from facegen.latents.projection.targets import Target, stacked
from facegen.latents.space import LatentSpace
from facegen.networks.age_shift import AgeShift, group_mean_shift
from facegen.networks.encoder import Encoder
from facegen.networks.latents import group_means
from facegen.photos.mark import Mark
from facegen.photos.save import save_marked
from facegen.status import StopRequest
from facegen.weights.load import read_networks
from facegen.weights.locate import locate, shipped_file
from facegen.weights.trained_for import check_trained_for

FPS = 10  # of proj.mp4
FRAMES = 100  # of proj.mp4, about: every step of long projections would be minutes of video


@dataclass(frozen=True)
class Found:
    """What the projection of a target came to.

    w: `[num_ws, w_dim]`.
    path: w on its way there, `[K, num_ws, w_dim]`; the last is `w`.
    loss: how different its picture looked at the last step, with the noise of the optimization.
    steps: how many were done.
    noise: of every layer, `[H, W]`.
    """

    w: torch.Tensor
    path: torch.Tensor
    loss: float
    steps: int
    noise: dict[str, np.ndarray]


class Projector:
    """Projects targets as a command's options say.

    Args:
        space: the generator's.
        judge: who tells how alike pictures look.
        encoder: where to start from, for `start` encoder.
    """

    def __init__(
        self, space: LatentSpace, judge: Judge, options: ProjectionOptions, encoder: AgeTransfer | None = None
    ) -> None:
        if options.start == "encoder" and encoder is None:
            raise FacegenError(
                "--start encoder needs a generator of age groups (--groups) and an encoder of its own: give --encoder"
            )
        self.space, self.judge, self.options, self.encoder = space, judge, options, encoder
        self._means: dict[str, MeanW] = {}

    def project(self, targets: Sequence[Target], stop: StopRequest, words: str = "projecting") -> list[Found]:
        """Project targets at once, with a bar; after a request to stop, what there is then."""
        steps, pictures = self.options.num_steps, stacked(targets, self.space.device)
        means = [self._mean(target) for target in targets]
        spread = torch.tensor([mean.spread for mean in means])
        loss = Likeness(self.judge, pictures)
        start = self._start(targets, means, pictures)
        every, path = max(1, steps // FRAMES), []
        run = project(self.space.generator, loss, start, spread, steps=steps, seed=self.options.seed)
        last: Projection | None = None
        with tqdm(run, words, total=steps, unit="step", disable=None, leave=False) as bar:
            for last in bar:
                is_last = stop.requested or last.step == steps
                if is_last or last.step % every == 0:
                    path.append(last.ws.cpu())
                    bar.set_postfix_str(f"distance {float(last.losses.mean()):.3f}")
                if is_last:
                    break
        assert last is not None  # there is at least one step
        return [self._found(last, torch.stack(path), index) for index in range(len(targets))]

    def _mean(self, target: Target) -> MeanW:
        name = target.label.name
        if name not in self._means:
            self._means[name] = mean_w(self.space.generator, target.label.weights)
        return self._means[name]

    def _start(self, targets: Sequence[Target], means: Sequence[MeanW], pictures: torch.Tensor) -> torch.Tensor:
        """Where the targets start: `[N, num_ws, w_dim]`, for the space w `[N, 1, w_dim]`."""
        start = torch.stack([mean.center for mean in means])[:, None]
        if self.encoder is not None and self.options.start == "encoder":
            years = torch.tensor([target.years for target in targets], device=pictures.device)
            with torch.no_grad():
                start = self.encoder.latent_ages.place(self.encoder.encoder(pictures), years)
        if self.options.space == "w":
            return start.mean(dim=1, keepdim=True)
        return start.expand(-1, self.space.generator.num_ws, -1)

    @staticmethod
    def _found(last: Projection, path: torch.Tensor, index: int) -> Found:
        noise = {name: part[index, 0].cpu().numpy() for name, part in last.noise.items()}
        return Found(last.ws[index], path[:, index], float(last.losses[index]), last.step, noise)


@dataclass(frozen=True)
class Extras:
    """What is written beside target.png, proj.png and projected_w.npz.

    video, noise: proj.mp4 and noise.npz.
    ages: at which the face is shown, too; none of them asks nothing of `latent_ages`.
    latent_ages: how ages differ in w.
    """

    video: bool = False
    noise: bool = False
    ages: Sequence[Age] = ()
    latent_ages: LatentAges | None = None


def save_projection(
    space: LatentSpace, target: Target, found: Found, outdir: str | os.PathLike[str], extras: Extras, name: str
) -> Iterator[Path]:
    """Write what a projection came to; yields the path of every file.

    `proj.png` is drawn with the noise that is stored with the weights, as `facegen generate --projected-w` draws it.

    Args:
        name: of the target, for the marks.
    """
    outdir, mark = Path(outdir), Mark(generated=True, made=f"projection of {name}")
    (drawn,) = map(as_image, space.draw([found.w]))
    yield save_marked(target.picture, outdir / "target.png", None)
    yield save_latents(outdir / "projected_w.npz", found.w[None])
    yield save_marked(drawn, outdir / "proj.png", mark)
    if extras.noise:
        with atomic_path(outdir / "noise.npz") as temporary, temporary.open("wb") as file:
            np.savez(file, **found.noise)  # type: ignore[arg-type]
        yield outdir / "noise.npz"
    if extras.video:
        frames = (beside(target.picture, as_image(frame)) for frame in space.draw(found.path))
        yield save_video(frames, outdir / "proj.mp4", FPS, total=len(found.path), mark=mark)
    if extras.latent_ages is not None:
        ws = ws_at_ages(extras.latent_ages, found.w, target.years, extras.ages)
        pictures = [as_image(pixels) for pixels in space.draw(ws)]
        yield from _save_ages([target.picture, drawn, *pictures], extras.ages, outdir, extras.video)


def _save_ages(pictures: Sequence[Image.Image], ages: Sequence[Age], outdir: Path, video: bool) -> Iterator[Path]:
    """Write a face at ages: `age05.png`, ..., all in `ages.png`, and their video; target and projection come first."""
    for age, picture in zip(ages, pictures[2:], strict=True):
        mark = Mark(ages=(age.caption,), generated=True)
        yield save_marked(picture, outdir / f"age{age.years:02g}.png", mark)
    mark = Mark(ages=tuple(age.caption for age in ages), generated=True)
    captions = ["target", "projected", *(age.caption for age in ages)]
    yield save_marked(age_strip(pictures, captions), outdir / "ages.png", mark)
    if video:
        yield save_morph(pictures[2:], outdir / "ages.mp4", mark=mark)


def ws_at_ages(latent_ages: LatentAges, w: torch.Tensor, years: float | None, ages: Sequence[Age]) -> torch.Tensor:
    """The w `[A, num_ws, w_dim]` of a projected face, `[num_ws, w_dim]` at its own age, at other ages."""
    own = torch.tensor([0.0 if years is None else years], device=w.device)
    wanted = torch.tensor([age.years for age in ages], dtype=torch.float32, device=w.device)
    return w + latent_ages.steps(w[None], own, wanted, Edit(method="shift"))[0]


def checked_ages(space: LatentSpace, ages: Sequence[float]) -> list[Age]:
    """The ages to show; a FacegenError where the generator's classes are no age groups, or none of this age."""
    if space.classes.groups is None:
        raise FacegenError("this generator's classes are not age groups: leave out --then-ages")
    return wanted_ages(ages, space.classes.groups)


def age_shift_of(space: LatentSpace, encoder: AgeTransfer | None) -> LatentAges:
    """How ages differ in w: as was trained with the encoder; without one, by the difference of the groups' means."""
    if encoder is not None:
        return encoder.latent_ages
    groups, generator = space.classes.groups, space.generator
    assert groups is not None  # see `checked_ages`
    middles = [float(groups.middle_age(index)) for index in range(len(groups))]
    means = group_means(generator)
    return LatentAges(generator, "w+", group_mean_shift(means, generator.num_ws, middles), middles, means)


def fitting_encoder(space: LatentSpace, network: str | None, encoder: str | None) -> AgeTransfer | None:
    """The encoder of a generator of age groups, with its age shift; None where the one in the package does not fit.

    Args:
        network, encoder: what the user gave; None for those in the package.
    """
    groups = space.classes.groups
    if groups is None:
        return None
    path = shipped_file("encoder") if encoder is None else locate(encoder)
    networks, header = read_networks(path)
    found, shift = networks.get("encoder"), networks.get("age_shift")
    if not isinstance(found, Encoder):
        raise FacegenError(f"{path}: holds {', '.join(networks) or 'nothing'}, but no encoder")
    try:
        check_trained_for(space.generator, path, networks, header, network or "the generator in the package")
    except FacegenError:
        if encoder is None:
            return None
        raise
    return AgeTransfer(
        space.generator,
        found,
        groups=groups,
        template=space.header.template,
        age_shift=shift if isinstance(shift, AgeShift) else None,
        device=space.device,
    )


def beside(target: Image.Image, drawn: Image.Image) -> Image.Image:
    """Two pictures of one size side by side."""
    sheet = Image.new("RGB", (target.width + drawn.width, target.height))
    sheet.paste(target, (0, 0))
    sheet.paste(drawn, (target.width, 0))
    return sheet
