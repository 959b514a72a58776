"""Which way in w a generator's faces turn from women's into men's: what an age shift has to leave alone.

A generator's groups differ in their share of men as its data's do, and more. The difference of two groups' means, which
is what an `AgeShift` starts from, carries that along: old women become men.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

from facegen.faces.template import UTKFACE_TEMPLATE, AlignmentTemplate
from facegen.networks.generator import Generator
from facegen.networks.latents import draw
from facegen.networks.sex_classifier import SIZE, SexClassifier

FACES = 300  # of each group
FEWEST = 10  # women, and men, that a group must have to count
DECAY = 1e-3  # of the classifier's weights: with few faces there are many planes that tell all apart
BATCH = 50


def sex_direction(
    generator: Generator, classifier: SexClassifier, *, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Find how women and men of one age group lie in w.

    Args:
        generator: conditional on age groups, in evaluation mode.
        classifier: tells the sex of its faces.
        seed: seeds the faces.

    Returns:
        The normal of the plane that tells both apart, of length 1, and the mean difference from women to men, both
        `[w_dim]`.
    """
    ws, men = _faces(generator, classifier, seed)
    centered = ws - ws.mean(dim=1, keepdim=True)
    counted = [w[m].mean(dim=0) - w[~m].mean(dim=0) for w, m in zip(ws, men, strict=True) if _has_both(m)]
    if not counted:
        raise ValueError("this generator's groups do not have both women and men")
    return functional.normalize(plane(centered / centered.std(), men)[0], dim=0), torch.stack(counted).mean(dim=0)


def why_not_judged(generator: Generator, template: AlignmentTemplate | None) -> str:
    """Say why the sex classifier cannot judge a generator's faces; nothing where it can.

    Args:
        template: how the generator's faces are aligned; None if that is unknown.
    """
    if generator.img_channels != 3:
        return "the sex classifier only knows faces in color"
    return "" if knows(template) else "the sex classifier only knows faces aligned like UTKFace's"


def knows(template: AlignmentTemplate | None) -> bool:
    """Whether the sex classifier knows faces of this alignment; None means unknown."""
    return template is not None and np.abs(np.subtract(template.points, UTKFACE_TEMPLATE.points)).max() <= 1 / SIZE


def _has_both(men: torch.Tensor) -> bool:
    return FEWEST <= int(men.sum()) <= len(men) - FEWEST


@torch.no_grad()
def _faces(generator: Generator, classifier: SexClassifier, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The w of random faces of every group, `[c_dim, FACES, w_dim]`, and whether they look like men."""
    device = next(generator.parameters()).device
    draws = torch.Generator().manual_seed(seed)
    ws, men = [], []
    for label in torch.eye(generator.c_dim, device=device):
        z = torch.randn([FACES, generator.z_dim], generator=draws).to(device)
        of_group = generator.mapping(z, label.expand(FACES, -1), skip_w_avg_update=True)
        pictures = (draw(generator, part).clamp(-1, 1) for part in of_group.split(BATCH))
        men.append(torch.cat([classifier(part).argmax(dim=1) == 1 for part in pictures]))
        ws.append(of_group[:, 0])
    return torch.stack(ws), torch.stack(men)


@torch.inference_mode(False)
@torch.enable_grad()
def plane(inputs: torch.Tensor, men: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the plane that tells men from women: logistic regression with an offset for each group.

    Args:
        inputs: float `[groups, N, D]`, of a spread of about 1.
        men: `[groups, N]`, whether each is a man's.

    Returns:
        Its weights `[D]`, not of length 1, and the offsets `[groups, 1]`.
    """
    inputs, targets = inputs.clone(), men.float()
    weight = torch.zeros(inputs.shape[-1], device=inputs.device, requires_grad=True)
    offsets = torch.zeros(len(inputs), 1, device=inputs.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, offsets], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        error = functional.binary_cross_entropy_with_logits(inputs @ weight + offsets, targets)
        error = error + DECAY * weight.square().sum()
        error.backward()
        return error

    optimizer.step(loss)
    return weight.detach(), offsets.detach()
