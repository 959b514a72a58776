"""`facegen info`: what a weight file is."""

from __future__ import annotations

import click


@click.command()
@click.argument("file")
@click.option("--layers", is_flag=True, help="Also list every tensor: shape, type, mean and standard deviation.")
@click.option("--json", "as_json", is_flag=True, help="Print all that is known as JSON.")
def command(file: str, layers: bool, as_json: bool) -> None:
    """Show what the weight file FILE is: networks, classes, license, checksum. Nothing in it is run.

    FILE is a file of facegen, a pickle of the StyleGAN2 family, a file of PyTorch, any other safetensors, a run folder,
    or latents, as projected_w.npz. A pickle that facegen refuses is told of all the same: what it names, and why it is
    refused.

    \b
    Example:
      facegen info ffhq.pkl --layers
    """
    from facegen.status import say
    from facegen.text import json_text
    from facegen.weights.in_words import in_words
    from facegen.weights.info import info

    facts = info(file, layers=layers)
    if as_json:
        say(*json_text(facts, indent=2).split("\n"))
        return
    say(*in_words(facts))
