"""`facegen blend`: coarse blocks of one generator, fine blocks of another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from facegen.cli import force_option
from facegen.errors import FacegenError
from facegen.latents.options import BlendOptions
from facegen.options import Parsed, Spelled, click_options
from facegen.status import say, status

SUFFIXES = (".safetensors", ".pkl")


def parse_splits(text: str) -> list[int]:
    """Read resolutions, as in `16,32`, each once; a FacegenError for anything else."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= 6 for part in parts):
        raise FacegenError(f"{text!r} is not a split: give resolutions, as in 16,32")
    return list(dict.fromkeys(map(int, parts)))


@click.command()
@click.option(
    "--low",
    cls=Spelled,
    also=["lower-res-pkl"],
    required=True,
    metavar="FILE|RUN|URL",
    help="The generator that gives the coarse blocks.",
)
@click.option(
    "--high",
    cls=Spelled,
    also=["higher-res-pkl"],
    required=True,
    metavar="FILE|RUN|URL",
    help="The generator that gives the fine blocks.",
)
@click.option(
    "--split",
    "splits",
    cls=Spelled,
    also=["split-res"],
    type=Parsed(parse_splits),
    metavar="RESOLUTIONS",
    help="Highest resolution of the coarse blocks, such as 16. Several, such as 8,16,32, give one file each.  "
    "[default: 64, but at most a quarter of the networks' resolution]",
)
@click.option(
    "--out",
    cls=Spelled,
    also=["output-path"],
    type=click.Path(path_type=Path),
    default="blended.safetensors",
    show_default=True,
    help="Output file; .pkl is for the original StyleGAN programs. Several splits give blended-16.safetensors "
    "and so on.",
)
@click_options(BlendOptions)
@click.option("--swap", is_flag=True, help="Swap the networks: coarse blocks from --high, fine blocks from --low.")
@click.option("--model-res", hidden=True, expose_value=False)  # the ancestors have it and never used it
@force_option
def command(low: str, high: str, splits: list[int] | None, out: Path, swap: bool, force: bool, **chosen: Any) -> None:
    """Blend two related generators: shapes from one, colors and textures from the other.

    One must have been trained from the other, or both from a third. Otherwise their w mean different things.

    \b
    Example:
      facegen blend --low ffhq.pkl --high toon.pkl --split 64 --out blended.safetensors
      facegen blend --low faces.safetensors --high toon.safetensors --split 8,16,32 --width 0.5
    """
    options = BlendOptions.from_command(chosen)
    if out.suffix.lower() not in SUFFIXES:
        raise click.UsageError(f"{out}: a blend must end in {' or '.join(SUFFIXES)}")
    with status("loading the networks ..."):
        from facegen.latents.blending import Source, check_blend, default_split, save_blend, warn_if_unrelated
        from facegen.weights.convert import check_destination

        one, other = (Source.load(reference) for reference in ((high, low) if swap else (low, high)))
    splits = splits or [default_split(one.generator.img_resolution)]
    paths = [out.with_stem(f"{out.stem}-{split}") for split in splits] if len(splits) > 1 else [out]
    for path, split in zip(paths, splits, strict=True):
        check_blend(one.generator, other.generator, split)
        check_destination(path, one.path, force)
        check_destination(path, other.path, force)
    warn_if_unrelated(one.generator, other.generator)
    for path, split in zip(paths, splits, strict=True):
        save_blend(path, one, other, split, options)
        say(str(path))
