"""Print what training costs at each resolution, counted and not measured: no weights, no data, no GPU needed.

.venv/bin/python scripts/bench/cost.py
.venv/bin/python scripts/bench/cost.py --cfg stylegan2
"""

from __future__ import annotations

from collections.abc import Callable

import click
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from facegen.networks.discriminator import Discriminator
from facegen.networks.generator import Generator
from facegen.training.generator.losses import GanLoss
from facegen.training.generator.options import get_preset
from facegen.training.generator.state import D_REG_INTERVAL, G_REG_INTERVAL

BATCH, C_DIM = 4, 10
NOWHERE = torch.device("meta")  # tensors without values: all is computed but the numbers


class Operations(TorchDispatchMode):
    """Counts floating-point operations of convolutions and matrix products, to any derivative.

    PyTorch's own `FlopCounterMode` also tells modules apart, and stumbles over second derivatives for that.
    """

    total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in flop_registry:
            self.total += flop_registry[func.overloadpacket](*args, **(kwargs or {}), out_val=result)
        return result


def build(cfg: str, resolution: int) -> GanLoss:
    """Build the networks of a preset, without augmentation, which depends on chance."""
    preset = get_preset(cfg, resolution)
    channels = {"channel_base": preset["channel_base"], "channel_max": preset["channel_max"]}
    with NOWHERE:
        mapping = {"num_layers": preset["map_layers"]}
        G = Generator(preset["latent"], C_DIM, preset["latent"], resolution, 3, mapping, channels)
        D = Discriminator(C_DIM, resolution, 3, architecture=preset["d_architecture"], **channels)
    return GanLoss(G.train(), D.train(), None, r1_gamma=1, style_mixing_prob=0)


def phases(loss: GanLoss) -> dict[str, tuple[torch.nn.Module, Callable[[], object], float]]:
    """Return the phases of a step: the network that learns, the phase, and how often a step has it."""
    z, c = torch.zeros(BATCH, loss.G.z_dim, device=NOWHERE), torch.zeros(BATCH, C_DIM, device=NOWHERE)
    real = torch.zeros(BATCH, 3, loss.D.img_resolution, loss.D.img_resolution, device=NOWHERE)
    return {
        "Gmain": (loss.G, lambda: loss.generator_main(z, c), 1),
        "Greg": (loss.G, lambda: loss.generator_reg(z, c), 1 / G_REG_INTERVAL),
        "Dmain": (loss.D, lambda: loss.discriminator_main(real, c, z, c), 1),
        "Dreg": (loss.D, lambda: loss.discriminator_reg(real, c), 1 / D_REG_INTERVAL),
    }


def cost(loss: GanLoss, network: torch.nn.Module, phase: Callable[[], object]) -> tuple[float, float]:
    """Return floating-point operations and the bytes of all that is kept for derivatives, both per picture."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage.nbytes()
        return tensor

    for other in (loss.G, loss.D):
        other.requires_grad_(other is network)
    weights = {parameter.untyped_storage()._cdata for parameter in (*loss.G.parameters(), *loss.D.parameters())}
    counter = Operations()
    with counter, torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        phase()
    memory = sum(size for storage, size in kept.items() if storage not in weights)
    return counter.total / BATCH, memory / BATCH


@click.command()
@click.option("--cfg", default="auto", show_default=True, help="As of facegen train.")
def main(cfg: str) -> None:
    """Count parameters, operations and memory of training for every resolution.

    \b
    Example:
      python scripts/bench/cost.py --cfg auto
    """
    print(f"--cfg {cfg}, per picture; memory in float32, what is in float16 takes half")
    print("resolution   G, D (million weights)   generating   training step   kept for derivatives")
    for resolution in (32, 64, 128, 256, 512, 1024):
        loss = build(cfg, resolution)
        G, D = (sum(p.numel() for p in network.parameters()) / 1e6 for network in (loss.G, loss.D))
        counter = Operations()
        with torch.no_grad(), counter:
            loss.G(torch.zeros(BATCH, loss.G.z_dim, device=NOWHERE), torch.zeros(BATCH, C_DIM, device=NOWHERE))
        step = memory = 0.0
        for name, (network, phase, often) in phases(loss).items():
            work, kept = cost(loss, network, phase)
            step += work * often
            if name == "Gmain":  # all of it is there at once, when G and D have run and backward begins
                memory = kept
        generating = counter.total / BATCH / 1e9
        print(
            f"{resolution:>10}   {G:10.1f}  {D:10.1f}   {generating:7.1f} GFLOP   {step / 1e9:7.0f} GFLOP"
            f"   {memory / 2**20:17.0f} MB"
        )


if __name__ == "__main__":
    main()
