"""`facegen info`: what is in a weights file."""

from __future__ import annotations

import click


@click.command()
@click.argument("file")
@click.option("--layers", is_flag=True, help="Also list every tensor with shape, type, mean and standard deviation.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def command(file: str, layers: bool, as_json: bool) -> None:
    """Show what is in the weights file FILE: networks, classes, license, checksum. No code in the file is run.

    FILE may be a facegen file, a StyleGAN2 pickle, a PyTorch file, any safetensors file, a run folder, or latents such
    as projected_w.npz. For a pickle that facegen refuses, it shows what the pickle refers to and why it is refused.

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
