"""What the processes of test_distributed.py do: `torchrun distributed_worker.py all|generator ...`."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from functools import partial

import pytest
import torch
from random_judges import random_detectors
from torch import nn
from trainings import CPU, go_on, interrupted_at, narrow_options, train

from facegen.data.archive import FaceArchive
from facegen.errors import FacegenError
from facegen.networks.generator import Generator
from facegen.training.augment.ada import AdaController
from facegen.training.encoder import loop as encoder
from facegen.training.encoder.data import FaceData
from facegen.training.encoder.objective import EncoderObjective
from facegen.training.encoder.pairs import Pairs
from facegen.training.encoder.recipes import RECIPES
from facegen.training.encoder.weight_average import WeightAverage
from facegen.training.generator import measure
from facegen.training.generator.state import build_state
from facegen.training.generator.step import train_step
from facegen.training.run import distributed
from facegen.training.run.stats import Collector

METRICS = "fid70_full,pr703_full,is70,ppl2_wend40"


def constant_noise(G: Generator) -> None:
    """Let a generator take the same noise for every picture."""
    G.synthesis.forward = partial(G.synthesis.forward, noise_mode="const")


def generator(archive: str, out: str, batch_gpu: str, group: str) -> None:
    """Ten steps on batches of 8 with constant noise; rank 0 writes what they changed."""
    chosen = {"batch": 8, "batch_gpu": int(batch_gpu) or None, "mbstd_group": int(group), "p": 0.3, "ada_kimg": 1}
    options = narrow_options(archive, cfg="auto", mirror=True, balance=0.5, **chosen)
    with distributed.join(CPU) as device:
        state = build_state(options, FaceArchive(archive), device)
        constant_noise(state.G)
        for _ in range(10):
            train_step(state, options, device)
        networks = {"G": state.G, "D": state.D, "G_ema": state.G_ema, "augment": state.augment}
        distributed.check_equal(networks)
        if distributed.is_main():
            weights = {f"{name}.{key}": v for name, net in networks.items() for key, v in net.state_dict().items()}
            torch.save({**weights, "pl_mean": state.loss.pl_mean, "random": state.random.state_dict()["rng_cpu"]}, out)


def train_encoder(out: str) -> None:
    """Two epochs of four batches of 8, small pictures and a small network."""
    torch.manual_seed(0)
    z = torch.randn(32, 4)
    images = (z[:, :3] * 60 + 128).clamp(0, 255).to(torch.uint8)[:, :, None, None].expand(-1, -1, 16, 16).clone()
    images += torch.randint(0, 20, images.shape, dtype=torch.uint8)
    pairs = Pairs(images, z, torch.zeros(32, dtype=torch.int64))
    # InceptionResnetV1 takes half a minute for this; what matters is batch normalization, learned and running.
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False)
    )
    network.extend([nn.BatchNorm2d(8, eps=0.001, momentum=0.1), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 12 * 12, 4)])
    options = encoder.EncoderOptions(generator="", recipe="zmse", batch=8, epochs=2)
    objective = EncoderObjective(network, nn.Identity(), RECIPES["zmse"], [])
    data = FaceData(pairs, pairs, torch.zeros(0))
    with distributed.join(CPU):
        encoder.share_batch_norm(network)
        optimizer = torch.optim.Adam([{"params": list(network.parameters()), "share": 1.0}], lr=1e-3)
        state = encoder.TrainingState(objective, WeightAverage(objective), optimizer, encoder.Progress())
        for epoch in range(2):
            for step, batch in enumerate(encoder.epoch_batches(32, options, epoch, data)):
                encoder.train_step(state, batch, data, options.lr_at(epoch, 4 * epoch + step))
        distributed.check_equal({"encoder": network})
        if distributed.is_main():
            torch.save(network.state_dict(), out)


def train_stop_and_go_on(archive: str, outdir: str) -> None:
    """Four steps, of which Ctrl-C on one process ends the second; measured at the end by random networks."""
    measure.load_detectors = lambda *args, **kwargs: random_detectors()
    with interrupted_at(3) if distributed.rank() == 1 else nullcontext():
        run = train(archive, outdir, kimg=0.016, aug="noaug", metrics=METRICS)
    go_on(run)


def talk() -> None:
    """Everything that processes tell each other, on two of them."""
    with distributed.join(CPU):
        rank = distributed.rank()
        agree = distributed.Agreement()
        assert agree(False, rank == 1) == (False, False)
        assert agree(False, False) == (False, True)
        assert agree(False, False) == (False, False)
        agree.close()

        assert distributed.share({"rank": rank}) == {"rank": 0}
        assert distributed.on_main(lambda: f"of rank {rank}") == "of rank 0"

        def fail() -> None:
            raise FacegenError("no such thing")

        with pytest.raises(FacegenError, match="no such thing"):
            distributed.on_main(fail)

        whole, tensor = torch.full([2, 2], float(rank)), torch.tensor(4.0 * rank)
        distributed.average([whole, tensor], parts=2)
        assert (whole == 0.25).all()
        assert tensor == 1

        collector = Collector()
        collector.report("x", torch.arange(4.0) + 4 * rank)
        summary = collector.flush()["x"]
        assert (summary.num, summary.mean) == (8, 3.5)

        # What is saved between two adjustments is what all have seen, so any process can go on from it.
        ada = AdaController(interval=4)
        for _ in range(2):
            ada.update(torch.tensor([1.0, 2.0 - 4.0 * rank, 3.0]))
        saved = ada.state_dict()
        assert (saved["sum"], saved["count"]) == (8.0, 12)

        layer = nn.Linear(3, 3)
        with torch.no_grad():
            layer.weight.fill_(rank)
        with pytest.raises(FacegenError, match="the layer are not the same on all 2 processes"):
            distributed.check_equal({"the layer": layer})
        distributed.broadcast([layer])
        distributed.check_equal({"the layer": layer})
        assert (layer.weight == 0).all()
    sys.stdout.write("all is well\n")


def everything(archive: str, folder: str) -> None:
    """All of the above, as starting processes takes longer than what they do."""
    with distributed.join(CPU):  # those within do nothing; processes join once
        talk()
        generator(archive, f"{folder}/generator.pt", "0", "2")
        train_encoder(f"{folder}/encoder.pt")
        train_stop_and_go_on(archive, f"{folder}/runs")


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"generator": generator, "all": everything}[sys.argv[1]](*sys.argv[2:])
