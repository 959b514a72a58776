"""`facegen project`: the latent whose picture comes closest to a photo."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facegen.aging.edit import parse_ages
from facegen.cli import device_option, encoder_option, groups_option, network_option
from facegen.cli.latents import label_options, labels_or_usual, only_label, opened_space, outdir_option
from facegen.errors import FacegenError, one_line
from facegen.latents.projection.options import ProjectionOptions
from facegen.options import Parsed, click_options
from facegen.status import StopRequest, say, status

if TYPE_CHECKING:
    from facegen.batch.sources import Source
    from facegen.latents.projection.save import Extras, Projector
    from facegen.latents.projection.targets import Target, Targets


@click.command()
@click.option(
    "--target",
    "targets",
    multiple=True,
    required=True,
    metavar="FILE|FOLDER",
    type=click.Path(path_type=Path),
    help="A photo, or a folder of photos. May be repeated.",
)
@outdir_option("results")
@network_option
@label_options
@click_options(ProjectionOptions)
@click.option(
    "--then-ages", type=Parsed(parse_ages), metavar="YEARS", help="Also show the face at these ages, such as 5:90:5."
)
@click.option(
    "--save-video",
    type=bool,
    is_flag=False,
    flag_value=True,
    metavar="[BOOL]",
    help="Also write proj.mp4, the target next to the result, and ages.mp4.  [default: yes if mp4 can be written]",
)
@click.option("--save-noise", is_flag=True, help="Also write noise.npz, the noise found with w for every layer.")
@click.option("--vgg", type=click.Path(path_type=Path), help="VGG16 weights for lpips.  [default: downloaded]")
@click.option("--lpips", type=click.Path(path_type=Path), help="LPIPS weights.  [default: downloaded]")
@encoder_option
@groups_option
@device_option
def command(
    targets: tuple[Path, ...],
    outdir: Path,
    then_ages: list[float] | None,
    save_video: bool | None,
    save_noise: bool,
    vgg: Path | None,
    lpips: Path | None,
    encoder: str | None,
    **chosen: Any,
) -> None:
    """Find the latent w whose picture is closest to a photo, as StyleGAN2's projector does.

    Writes target.png, projected_w.npz, proj.png (what `facegen generate --projected-w` draws) and proj.mp4. Several
    photos get a folder each. --then-ages adds the face at each age, age05.png and so on, and all of them in ages.png. A
    photo that cannot be read is reported, the others are processed, and the exit code is 1. Ctrl-C stops and writes the
    best result so far.

    Pictures are compared at 96 to 256 pixels: larger ones are reduced, smaller ones enlarged. proj.png uses the noise
    stored with the weights, not the noise found with w.

    \b
    Example:
      facegen project --target photo.jpg
      facegen project --target photo.jpg --distance lite --num-steps 500 --then-ages 5:90:5
      facegen project --target photos --outdir out --space w+ --start encoder --num-steps 200
      facegen project --target img.png --network ffhq1024 --align none --save-video=False
    """
    options = ProjectionOptions.from_command(chosen)
    space = opened_space(chosen)
    with status("loading the networks ..."):
        from facegen.batch.sources import sources_in
        from facegen.latents.projection.save import Extras, Projector, age_shift_of, checked_ages, fitting_encoder
        from facegen.latents.projection.targets import Targets, open_judge

        sources = sources_in(targets, outdir)
        video = _writes_video(save_video, outdir)
        ages = [] if then_ages is None else checked_ages(space, then_ages)
        label = only_label(space, chosen)
        if label is None and space.classes.groups is None:  # the class of a picture is unknown
            (label,) = labels_or_usual(space, chosen)
        opened = Targets(space, options.align, label, (chosen["age"] or [None])[0])
        needed = ages or options.start == "encoder"
        fitting = fitting_encoder(space, chosen["network"], encoder) if needed else None
        extras = Extras(video, save_noise, ages, age_shift_of(space, fitting) if ages else None)
        if ages and fitting is None:
            say("Note: no encoder for this generator, so ages follow the mean faces of their groups", err=True)
        projector = Projector(space, open_judge(options.distance, space.device, vgg, lpips), options, fitting)
    _project_all(projector, opened, sources, extras)


def _project_all(projector: Projector, opened: Targets, sources: list[Source], extras: Extras) -> None:
    """Project photos, some at a time, and end with an exit code that tells whether all are done."""
    from facegen.latents.projection.save import save_projection

    done, failed, batch = 0, 0, projector.options.batch
    with StopRequest() as stop:
        for first in range(0, len(sources), batch):
            some = list(_opened(opened, sources[first : first + batch], only=len(sources) == 1))
            failed += len(sources[first : first + batch]) - len(some)
            if stop.requested:
                break
            words = "projecting" if len(sources) == 1 else f"projecting {first + len(some)} of {len(sources)}"
            results = projector.project([target for _, target in some], stop, words) if some else []
            for (source, target), found in zip(some, results, strict=True):
                paths = save_projection(projector.space, target, found, source.folder, extras, source.path.name)
                say(*map(str, paths))
                words = f"{projector.options.distance} {found.loss:.4f} after {found.steps} steps"
                say(f"{source.path}: {words}", err=True)
            done += len(some)
            if stop.requested:
                break
    if stop.requested:
        say(f"Stopped: results of {done} of {len(sources)} pictures are written.", err=True)
        raise click.exceptions.Exit(143 if stop.preempted else 130)
    if failed:
        raise click.exceptions.Exit(1)


def _opened(opened: Targets, sources: list[Source], *, only: bool) -> Iterator[tuple[Source, Target]]:
    """The photos that can be read; the others are named, or raise an error where there is but one."""
    for source in sources:
        try:
            target = opened.open(source.path)
        except (FacegenError, OSError) as error:
            if only:
                raise
            say(f"Error: {one_line(error)}", err=True)
            continue
        say(f"{source.path}: {target.note}", err=True)
        yield source, target


def _writes_video(asked: bool | None, outdir: Path) -> bool:
    """Whether videos are written; by default only if that is possible."""
    from facegen.aging.video import check_video

    if asked is False:
        return False
    try:
        check_video(outdir / "proj.mp4")
    except FacegenError as error:
        if asked:
            raise
        say(f"Note: no video, as {error}", err=True)
        return False
    return True
