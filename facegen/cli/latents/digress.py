"""`facegen digress`: videos in which a face and the network's constant go around circles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.cli.latents import label_options, labels_or_usual, opened_space, outdir_option, space_options
from facegen.latents.options import DigressionOptions, VideoOptions
from facegen.options import click_options
from facegen.status import say, status


@click.command(context_settings={"default_map": {"trunc": 0.7}})
@click_options(DigressionOptions)
@outdir_option("files")
@label_options
@click_options(VideoOptions)
@space_options
def command(outdir: Path, **chosen: Any) -> None:
    """Make a video in which a face melts and comes back: z and the network's constant each go around a circle.

    The constant is the input from which the network draws every picture. With a --radius-large of 60 the pictures are
    still faces, with 300 they are not. Both circles are closed, so the video repeats without a jump. Frames are called
    frames/frame0000.png and so on.

    \b
    Example:
      facegen digress --seed 1 --age 30 --radius-large 80
      facegen digress --seeds 3,4,5 --radius-small 15 --step1 0.02 --step2 0.01 --video gif
    """
    options, video = DigressionOptions.from_command(chosen), VideoOptions.from_command(chosen)
    with status("loading the network ..."):
        from facegen.latents.digression import digression
        from facegen.latents.frames import check_frames, save_frames

        check_frames(video, outdir)
    space = opened_space(chosen)
    labels = labels_or_usual(space, chosen)
    if len(labels) > 1:
        raise click.UsageError(f"this takes one class, not {len(labels)}")
    plan = digression(space, options, labels[0])
    frames = space.draw(plan.ws, plan.consts)
    for path in save_frames(frames, plan.total, outdir, f"{plan.name}-{video.fps:g}fps", video, plan.name):
        say(str(path))
