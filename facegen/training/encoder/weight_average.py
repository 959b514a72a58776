"""A moving average of weights: steadier than the weights of any one step."""

from __future__ import annotations

import copy
from collections.abc import Iterable

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from facegen.training.encoder.objective import EncoderObjective, Faces

HALF_LIFE = 100.0  # steps of an encoder
SHARE_OF_STEPS = 0.1  # no half-life is longer than this share of the steps so far: the start is to be forgotten


def floats_of(networks: Iterable[nn.Module]) -> list[torch.Tensor]:
    """All weights and statistics of networks that can be averaged, the tensors themselves."""
    return [tensor for network in networks for tensor in network.state_dict().values() if tensor.is_floating_point()]


@torch.no_grad()
def move_average(average: list[torch.Tensor], current: list[torch.Tensor], steps: int, half_life: float) -> None:
    """Move averaged tensors toward the current ones, after `steps` steps of the run; `half_life` is in steps."""
    keep = 0.5 ** (1 / min(half_life, max(SHARE_OF_STEPS * steps, 1e-3)))
    torch._foreach_lerp_(average, current, 1 - keep)


class WeightAverage:
    """Keeps, beside an encoder in training, one whose weights are averages over its last steps.

    At the learning rates that make quick progress an encoder jumps about its course, and batch normalization's running
    statistics lag so far behind that its answers are worthless in evaluation. An average of the weights does not jump
    (Tarvainen and Valpola 2017), and `calibrate` measures its statistics again (Wu and Johnson 2021, section 3).

    Attributes:
        objective: The average, in evaluation mode. What is not trained it shares with the objective in training.
    """

    def __init__(self, objective: EncoderObjective) -> None:
        trained = objective.trained().values()
        judges = (objective.estimator, objective.perceptual, objective.identity_loss, objective.sex_classifier)
        others = (objective.generator, *judges, objective.latent_discriminator)
        shared = {id(network): network for network in others if all(network is not one for one in trained)}
        self.objective = copy.deepcopy(objective, shared).eval()
        self._average = floats_of(self.objective.trained().values())
        self._current = floats_of(trained)

    def update(self, steps: int) -> None:
        """Move toward the weights after `steps` steps of the run."""
        move_average(self._average, self._current, steps, HALF_LIFE)

    def calibrate(self, batches: Iterable[Faces]) -> None:
        """Measure the statistics of batch normalization again, over some batches as in training."""
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
