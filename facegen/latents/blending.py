"""Blends: a generator whose coarse blocks are one network's and whose fine blocks are another's.

The coarse blocks decide pose and shapes, the fine ones colors and textures (Pinkney and Adler 2020, "Resolution
Dependent GAN Interpolation for Controllable Image Synthesis Between Domains"). Both networks have to speak of the same
w: one was trained from the other, or both from a third.
"""

from __future__ import annotations

import math
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from facegen.errors import FacegenError
from facegen.latents.options import BlendOptions
from facegen.networks.generator import Generator
from facegen.weights.export.pickle import write_pickle
from facegen.weights.header import Header
from facegen.weights.load import load_generator
from facegen.weights.locate import locate
from facegen.weights.native import save_networks
from facegen.weights.trained_for import name_generator

UNRELATED = 0.1  # cosine of two networks' weights
NOT_OF_A_BLEND = ("kimg", "augment_p", "metrics")  # what a header says of one training
_DEFAULTS = {"architecture": "skip", "activation": "lrelu", "resample_filter": [1, 3, 3, 1]}


@dataclass(frozen=True)
class Source:
    """A network to blend."""

    path: Path
    generator: Generator
    header: Header

    @classmethod
    def load(cls, reference: str | os.PathLike[str]) -> Source:
        """Load whatever `load_generator` takes."""
        path = locate(reference)
        return cls(path, *load_generator(path))

    @property
    def entry(self) -> dict[str, str | None]:
        """What a blend's file says of it."""
        return {**name_generator(self.generator, self.path), "license": self.header.license}


def blend(low: Generator, high: Generator, split: int, options: BlendOptions | None = None) -> Generator:
    """Return a new generator: the blocks up to and including `split` are low's, those above are high's.

    Args:
        low, high: of the same resolution and widths; classes and mapping may differ.
        split: a resolution of the networks, below their last.
        options: how soft the transition is, see `share_of_high`, and whose mapping network the blend has. Stored noise
            is not mixed, which would weaken it: it is that of the network which a block has more of.

    Raises:
        FacegenError: networks that do not fit, or no such split; see `check_blend`.
    """
    options = options or BlendOptions()
    check_blend(low, high, split)
    mapped = {"low": low, "high": high}[options.mapping]
    of_mapping = ("z_dim", "c_dim", "mapping_kwargs")
    kwargs: dict[str, Any] = {**low.init_kwargs, **{name: mapped.init_kwargs[name] for name in of_mapping}}
    tensors = {f"mapping.{name}": tensor for name, tensor in mapped.mapping.state_dict().items()}
    for resolution in low.synthesis.block_resolutions:
        name, share = f"synthesis.b{resolution}", share_of_high(resolution, split, options.width)
        blocks = [network.get_submodule(name) for network in (low, high)]
        nearer = blocks[share > 0.5].state_dict()
        tensors |= {f"{name}.{key}": tensor for key, tensor in nearer.items()}
        for (key, start), end in zip(blocks[0].named_parameters(), blocks[1].parameters(), strict=True):
            tensors[f"{name}.{key}"] = start.detach().lerp(end.detach(), share)
    with torch.random.fork_rng(devices=[]):  # for weights that are replaced at once
        blended = Generator(**kwargs)
    blended.load_state_dict(tensors)
    return blended.eval().requires_grad_(False)


def share_of_high(resolution: int, split: int, width: float) -> float:
    """How much of a block is high's, 0..1: it grows over `width` blocks around the middle of split and 2 * split."""
    if width == 0:
        return float(resolution > split)
    return 0.5 + 0.5 * math.tanh((math.log2(resolution / split) - 0.5) / (2 * width))


def check_blend(low: Generator, high: Generator, split: int) -> None:
    """Raise a FacegenError, with what is different, if two generators cannot be blended at a split."""
    for what, one, other in (
        ("resolution", low.img_resolution, high.img_resolution),
        ("length of w", low.w_dim, high.w_dim),
        *((name, _argument(low, name), _argument(high, name)) for name in _DEFAULTS),
    ):
        if one != other:
            raise FacegenError(
                f"these networks do not fit: the {what} of the low one is {one}, but of the high one {other}"
            )
    shapes = [{name: list(x.shape) for name, x in network.synthesis.state_dict().items()} for network in (low, high)]
    for name in shapes[0] | shapes[1]:
        one, other = (shape.get(name, "not there") for shape in shapes)
        if one != other:
            raise FacegenError(f"these networks do not fit: {name} of the low one is {one}, of the high one {other}")
    splits = low.synthesis.block_resolutions[:-1]
    if split not in splits:
        listed = ", ".join(map(str, splits)) or "none"
        raise FacegenError(
            f"a blend cannot split at {split}: these networks of {low.img_resolution} pixels have {listed}"
        )


def default_split(resolution: int) -> int:
    """64 as in the ancestors, but at most a quarter of the network's side."""
    return max(4, min(64, resolution // 4))


def warn_if_unrelated(low: Generator, high: Generator) -> None:
    """Warn where two networks that fit were not trained from one another: their w mean different things.

    Training turns weights little, so the cosine of the convolutions tells: two trainings of their own have about 0.
    """
    weights = [
        torch.cat([x.detach().flatten() for x in network.synthesis.parameters() if x.ndim == 4])
        for network in (low, high)
    ]
    cosine = float(torch.nn.functional.cosine_similarity(weights[0], weights[1], dim=0))
    if cosine < UNRELATED:
        warnings.warn(
            "these networks are not related: neither was trained from the other, so their blend would not be a face",
            stacklevel=2,
        )


def save_blend(path: str | os.PathLike[str], low: Source, high: Source, split: int, options: BlendOptions) -> None:
    """Blend two networks and write the result atomically, as a pickle under a name in `.pkl`; see `blend`.

    The file says what low's file says, what the classes are from the network of the mapping, and both origins.
    """
    networks = {"G_ema": blend(low.generator, high.generator, split, options)}
    about = {name: value for name, value in low.header.metadata.items() if name not in NOT_OF_A_BLEND}
    if options.mapping == "high":
        of_classes = ("groups", "class_names")
        about = {name: value for name, value in about.items() if name not in of_classes}
        about |= {name: high.header[name] for name in of_classes if name in high.header}
    how = {"split": split, **options.to_json()}
    about |= {"license": _license(low, high, split), "blended": {"low": low.entry, "high": high.entry, **how}}
    if Path(path).suffix.lower() == ".pkl":
        origin = low.header.get("origin") or {}
        write_pickle(path, networks, origin.get("training_set_kwargs"), metadata=about)
    else:
        save_networks(path, networks, about)


def _argument(network: Generator, name: str) -> Any:
    kwargs: Any = network.init_kwargs["synthesis_kwargs"]
    value = kwargs.get(name, _DEFAULTS[name])
    return list(value) if isinstance(value, tuple) else value


def _license(low: Source, high: Source, split: int) -> str | None:
    """What may be done with a blend: what both allow."""
    one, other = low.header.license, high.header.license
    if one == other:
        return one
    return f"both of: {one or 'not stated'} (up to {split}x{split}); {other or 'not stated'} (above)"
