"""What many tests build: narrow networks, short trainings, archives of one face; and how runs are compared."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from facegen.ages import AgeGroups
from facegen.data.archive import ArchiveWriter
from facegen.faces.template import UTKFACE_TEMPLATE
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.networks.lite_features import STAGES, STEM

HOPPER = Path(get_sample_data("grace_hopper.jpg", asfileobj=False))  # a portrait, 512x600


def start_python(*arguments: str) -> subprocess.Popen:
    """Start Python in a process that heeds signals: a job in the background ignores Ctrl-C, one under nohup SIGHUP."""

    def heed() -> None:
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    command, pipe = [sys.executable, *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, preexec_fn=heed)


def small_generator(c_dim: int, resolution: int = 16, channels: int = 3, z_dim: int = 8) -> Generator:
    """A narrow generator, the same one at every call."""
    torch.manual_seed(0)
    narrow = {"channel_base": 256, "channel_max": 16, "num_fp16_res": 0}
    return Generator(
        z_dim, c_dim, 8, resolution, channels, mapping_kwargs={"num_layers": 1}, synthesis_kwargs=narrow
    ).eval()


def generator_of_groups() -> Generator:
    """A narrow generator of three groups that differ, as they hardly do before any training; w is smaller than z."""
    torch.manual_seed(0)
    network = Generator(8, 3, 6, 16, 3, {"num_layers": 2}, {"channel_base": 64})
    torch.nn.init.normal_(network.mapping.embed.weight)
    return network.eval().requires_grad_(False)


def small_encoder(width: int = 8, target: str = "z", num_ws: int = 6) -> Encoder:
    """The smallest encoder that there is, the same one at every call."""
    torch.manual_seed(1)
    return Encoder(width, 16, 75, (0, 0, 0), target=target, num_ws=num_ws).eval()


def small_estimator() -> AgeEstimator:
    return AgeEstimator(widths=(8, 8), depths=(1, 1), input_size=16)


def write_lite(path: Path, widths: Sequence[int], depths: Sequence[int]) -> Path:
    """Write random weights as those of EfficientNet-Lite are laid out, batch normalizations apart."""
    random, found = torch.Generator().manual_seed(0), {}

    def put(conv: str, norm: str, *shape: int) -> None:
        found[f"{conv}.weight"] = torch.randn(shape, generator=random) / (shape[1] * shape[2] * shape[3]) ** 0.5
        for name in ("running_mean", "running_var", "weight", "bias"):
            found[f"{norm}.{name}"] = 0.5 + torch.rand(shape[0], generator=random)

    put("_conv_stem", "_bn0", STEM, 3, 3, 3)
    inputs, index = STEM, 0
    for (widening, kernel, _), outputs, count in zip(STAGES, widths, depths, strict=False):
        for _ in range(count):
            name, inner = f"_blocks.{index}", inputs * widening
            if widening != 1:
                put(f"{name}._expand_conv", f"{name}._bn0", inner, inputs, 1, 1)
            put(f"{name}._depthwise_conv", f"{name}._bn1", inner, 1, kernel, kernel)
            put(f"{name}._project_conv", f"{name}._bn2", outputs, inner, 1, 1)
            inputs, index = outputs, index + 1
    torch.save(found, path)
    return path


def crops(count: int, size: int = 16) -> list[Image.Image]:
    """Pieces of one photo, each in a tint that its number decides."""
    random = np.random.default_rng(0)
    with Image.open(HOPPER) as photo:
        pieces = []
        for i in range(count):
            left, top = random.integers(140, 220), random.integers(40, 110)
            piece = photo.crop((left, top, left + 200, top + 200)).resize((size, size))
            tint = np.array([1, 1 - i / count, 0.3 + 0.7 * i / count])
            pieces.append(Image.fromarray((np.asarray(piece) * tint).astype(np.uint8)))
    return pieces


def write_faces(path: Path, ages: Sequence[int | None], groups: AgeGroups | None = None, size: int = 16) -> Path:
    """Write an archive with a face of each age; those of age None lie in the group 0 and have no exact age."""
    groups = groups or AgeGroups.default()
    with ArchiveWriter(path, groups=groups, template=UTKFACE_TEMPLATE) as writer:
        for index, (age, face) in enumerate(zip(ages, crops(len(ages), size), strict=True)):
            writer.add(f"{age}_0_0_{index}.png", face, label=0 if age is None else groups.index_of(age), age=age)
    return path
