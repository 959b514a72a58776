"""A moving average of weights: steadier than the weights of any one step."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from facegen.training.encoder_objective import EncoderObjective, Faces

HALF_LIFE = 100  # steps
SHARE_OF_STEPS = 0.1  # but no longer than this share of the steps so far


class WeightAverage:
    """Keeps, beside an encoder in training, one whose weights are averages over its last steps.

    At the learning rates that make quick progress an encoder jumps about its course, and batch normalisation's running
    statistics lag so far behind that its answers are worthless in evaluation. An average of the weights does not jump
    (Tarvainen and Valpola 2017), and `calibrate` measures its statistics anew (Wu and Johnson 2021, section 3).

    Attributes:
        objective: The average, in evaluation mode.
    """

    def __init__(self, objective: EncoderObjective) -> None:
        self.objective = copy.deepcopy(objective).eval()

    def update(self, objective: EncoderObjective, steps: int) -> None:
        """Move towards the weights after so many `steps` of the run."""
        half_life = min(HALF_LIFE, max(SHARE_OF_STEPS * steps, 1e-3))
        share = 1 - 0.5 ** (1 / half_life)
        for name, network in objective.trained().items():
            ours = self.objective.trained()[name].state_dict()
            with torch.no_grad():
                for key, value in network.state_dict().items():
                    if value.is_floating_point():
                        ours[key].lerp_(value, share)
                    else:
                        ours[key].copy_(value)

    def calibrate(self, batches: Iterable[Faces]) -> None:
        """Measure the statistics of batch normalisation anew, over some batches as in training."""
        encoder = self.objective.encoder
        norms = [module for module in encoder.modules() if isinstance(module, _BatchNorm)]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the plain mean over the batches
        encoder.train()
        with torch.no_grad():
            for faces in batches:
                encoder(faces.images)
        encoder.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
