"""Pairs of a generated face and the latent it came from: what the encoder learns from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional
from tqdm import tqdm

from facegen.device import to_device
from facegen.errors import FacegenError
from facegen.images import to_uint8
from facegen.networks.generator import Generator
from facegen.networks.graphed import GraphedGenerator
from facegen.networks.layers import normalize_2nd_moment

BATCH = 32  # generated at once; fixed, because the last bits of a float may depend on it


@dataclass
class Pairs:
    """N generated faces and their latents, on the CPU.

    images: uint8 [N, 3, S, S], levels as in a picture file.
    z: float32 [N, z_dim], each of unit second moment, as the mapping network sees it.
    classes: int64 [N]; the encoder never sees them.
    """

    images: torch.Tensor
    z: torch.Tensor
    classes: torch.Tensor

    def __len__(self) -> int:
        return len(self.z)

    def split(self, share: float) -> tuple[Pairs, Pairs]:
        """The first `share` of the pairs and the rest; their order is random already."""
        count = min(max(1, round(len(self) * share)), len(self) - 1)
        return self._part(slice(None, count)), self._part(slice(count, None))

    def _part(self, part: slice) -> Pairs:
        return Pairs(self.images[part], self.z[part], self.classes[part])


def generate_pairs(
    generator: Generator,
    count: int,
    *,
    seed: int = 0,
    psi: float = 1.0,
    max_size: int | None = None,
    device: torch.device | str = "cpu",
    progress: bool = True,
) -> Pairs:
    """Generate pairs with random latents, classes (every group equally often) and noise.

    The same seed gives the same pairs on the same machine; torch's own random state does not change.

    Args:
        generator: G_ema, already on `device`.
        count: How many pairs, at least 2.
        psi: Truncation; with 1 the encoder sees everything that the generator can make.
        max_size: Larger faces are reduced to this side, which saves memory; None keeps their size.
    """
    if count < 2:
        raise FacegenError(f"the encoder needs at least 2 pairs, one of them to validate with; got {count}")
    random = torch.Generator().manual_seed(seed)
    latents = torch.randn(count, generator.z_dim, generator=random)
    classes = _even_classes(count, generator.c_dim, random)
    images, generate = [], GraphedGenerator(generator, truncation_psi=psi, noise_mode="random")
    cuda = [torch.device(device)] if torch.device(device).type == "cuda" else []
    with (
        torch.random.fork_rng(devices=cuda),
        torch.no_grad(),
        tqdm(total=count, desc="generating pairs", unit="face", disable=not progress) as bar,
    ):
        torch.manual_seed(seed)  # the synthesis network draws its noise from torch's own state
        for z, c in zip(latents.split(BATCH), classes.split(BATCH), strict=True):
            faces = generate(*(to_device(part, torch.device(device)) for part in (z, one_hot(c, generator.c_dim))))
            images.append(_as_picture(faces, max_size).cpu())
            bar.update(len(z))
    return Pairs(torch.cat(images), normalize_2nd_moment(latents), classes)


def one_hot(classes: torch.Tensor, c_dim: int) -> torch.Tensor:
    """Class numbers [N] as the generator's labels [N, c_dim]; [N, 0] for a generator without classes."""
    return functional.one_hot(classes, c_dim).float() if c_dim else torch.zeros(len(classes), 0)


def _even_classes(count: int, c_dim: int, random: torch.Generator) -> torch.Tensor:
    """Class numbers in random order; every `c_dim` in a row hold each class once."""
    if c_dim == 0:
        return torch.zeros(count, dtype=torch.int64)
    rounds = -(-count // c_dim)
    return torch.cat([torch.randperm(c_dim, generator=random) for _ in range(rounds)])[:count]


def _as_picture(faces: torch.Tensor, max_size: int | None) -> torch.Tensor:
    """Floats [N, C, H, W] as uint8 [N, 3, S, S]: rounded as in a file, so that no hidden digits help the encoder."""
    levels = to_uint8(faces).expand(-1, 3, -1, -1)
    if max_size is not None and levels.shape[-1] > max_size:
        size = (max_size, max_size)
        smaller = functional.interpolate(levels.float(), size, mode="bilinear", antialias=True)
        levels = smaller.round().clamp(0, 255).to(torch.uint8)
    return levels
