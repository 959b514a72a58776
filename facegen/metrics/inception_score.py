"""The inception score (Salimans et al. 2016, "Improved Techniques for Training GANs")."""

from __future__ import annotations

import math

import torch

SPLITS = 10


def inception_score(logits: torch.Tensor, *, splits: int = SPLITS) -> tuple[float, float]:
    """Return mean and standard deviation over splits of exp(E KL(p(y|x) || p(y))), from 1 to the number of classes.

    Args:
        logits: `[N, classes]`, in the random order that the pictures were drawn in.
        splits: Equal parts that are scored apart; fewer where there are fewer pictures.
    """
    scores = []
    for part in logits.to(torch.float64).tensor_split(min(splits, len(logits))):
        log_p = part.log_softmax(dim=1)
        log_mean = log_p.logsumexp(dim=0) - math.log(len(part))
        p = log_p.exp()
        # 0 log 0 is 0; a class that no picture has is -inf in both logarithms.
        terms = torch.where(p > 0, p * (log_p - log_mean), 0.0)
        scores.append(terms.sum(dim=1).mean().exp())
    found = torch.stack(scores)
    return float(found.mean()), float(found.std(correction=0))
