"""Write the generator and the encoder as graphs that run without facegen: ONNX and TorchScript.

Both take and give float32 with any number of samples. A generator: `z` `[N, z_dim]` and `c` `[N, c_dim]` (none where
the network has no classes) to `image` `[N, channels, R, R]`, about -1..1, with the noise that is stored with the
weights. An encoder: `image` `[N, 3, R, R]`, R being the resolution of its generator, to `z` `[N, z_dim]`.
"""

from __future__ import annotations

import copy
import json
import os
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from facegen.errors import FacegenError
from facegen.files import atomic_path
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator

OPSET = 18  # ONNX runtimes since the end of 2022 have it
METADATA_KEY = "facegen"
MAX_DIFFERENCE = 1e-3  # between a written graph and PyTorch; images span -1..1, latents about -3..3
CHECKED_BATCHES = (1, 3)  # the example that a graph is made of has 2

_Inputs = dict[str, torch.Tensor]


class _GeneratorGraph(nn.Module):
    """The generator with truncation and noise fixed."""

    output = "image"

    def __init__(self, generator: Generator, truncation_psi: float) -> None:
        super().__init__()
        self.generator = generator
        self.truncation_psi = truncation_psi

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.generator(z, c, truncation_psi=self.truncation_psi, noise_mode="const")

    def example(self, batch: int) -> _Inputs:
        """Random inputs, the same every time."""
        z_dim, c_dim = self.generator.z_dim, self.generator.c_dim
        z = torch.randn([batch, z_dim], generator=torch.Generator().manual_seed(batch))
        return {"z": z, "c": torch.eye(c_dim)[torch.arange(batch) % c_dim]} if c_dim else {"z": z}


class _EncoderGraph(nn.Module):
    """The encoder, its resizing written as two products with a constant matrix: any runtime has those."""

    output = "z"
    resize: torch.Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.trunk, self.head = encoder.trunk, encoder.head
        self.resolution = encoder.img_resolution
        # Resizing is linear along each axis, so what it makes of the unit matrix is the matrix that resizes.
        unit = torch.eye(self.resolution)[None, None]
        size = (encoder.input_size, self.resolution)
        self.register_buffer("resize", functional.interpolate(unit, size, mode="bilinear", antialias=True)[0, 0])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.resize.shape[0] != self.resize.shape[1]:
            image = self.resize @ image @ self.resize.t()
        return self.head(self.trunk(image).flatten(1))

    def example(self, batch: int) -> _Inputs:
        shape = [batch, 3, self.resolution, self.resolution]
        return {"image": torch.rand(shape, generator=torch.Generator().manual_seed(batch)) * 2 - 1}


def export_onnx(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    truncation_psi: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
) -> float:
    """Write a generator or an encoder as ONNX and compare it with PyTorch before the file gets its name.

    Args:
        network: A `Generator` or an `Encoder`.
        path: The file, by custom `*.onnx`.
        truncation_psi: The generator's truncation, fixed in the graph.
        metadata: What JSON can hold (age groups, alignment template, ...), stored under the model's metadata.

    Returns:
        The largest difference from PyTorch that was found.

    Raises:
        FacegenError: another kind of network, a missing package, or a graph that does not compute the same.
    """
    graph = _graph(network, truncation_psi)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (the exporter needs it)
    except ImportError as error:
        raise FacegenError(f"ONNX needs the package {error.name}: pip install 'facegen[onnx]'") from error

    inputs = graph.example(2)
    batch = torch.export.Dim("batch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about deprecations inside the exporter
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple({0: batch} for _ in inputs),
            input_names=list(inputs),
            output_names=[graph.output],
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None  # with dynamo=True
    for node in program.model.graph:
        node.metadata_props.clear()  # paths of this machine's source files
    if metadata is not None:
        program.model.metadata_props[METADATA_KEY] = json.dumps(metadata)
    with atomic_path(path) as temporary:
        program.save(temporary)
        session = onnxruntime.InferenceSession(temporary, providers=["CPUExecutionProvider"])

        def run(inputs: _Inputs) -> torch.Tensor:
            return torch.from_numpy(session.run(None, {name: x.numpy() for name, x in inputs.items()})[0])

        return _compare(graph, network, run, Path(path))


def export_torchscript(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    truncation_psi: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
) -> float:
    """Write a generator or an encoder as TorchScript, for `torch.jit.load` and libtorch; otherwise as `export_onnx`.

    The metadata is the extra file `facegen.json` in the archive.
    """
    graph = _graph(network, truncation_psi)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; shape checks are constants in a trace, as is meant
        traced = torch.jit.trace(graph, tuple(graph.example(2).values()), check_trace=False)
        extra = {} if metadata is None else {f"{METADATA_KEY}.json": json.dumps(metadata)}
        with atomic_path(path) as temporary:
            traced.save(str(temporary), _extra_files=extra)
            loaded = torch.jit.load(str(temporary))
            return _compare(graph, network, lambda inputs: loaded(*inputs.values()), Path(path))


def _graph(network: nn.Module, truncation_psi: float) -> _GeneratorGraph | _EncoderGraph:
    network = copy.deepcopy(network).cpu()
    if isinstance(network, Generator):
        return _GeneratorGraph(network, truncation_psi).eval().requires_grad_(False)
    if isinstance(network, Encoder):
        return _EncoderGraph(network).eval().requires_grad_(False)
    kind = type(network).__name__.lower()
    raise FacegenError(f"a {kind} has no use as ONNX or TorchScript: choose a generator or an encoder")


@torch.no_grad()
def _compare(
    graph: _GeneratorGraph | _EncoderGraph, network: nn.Module, run: Callable[[_Inputs], torch.Tensor], path: Path
) -> float:
    """Return the largest difference of a written graph from our network; FacegenError when it is too large."""
    worst = 0.0
    for batch in CHECKED_BATCHES:
        inputs = graph.example(batch)
        if isinstance(graph, _GeneratorGraph):
            z, c = inputs["z"], inputs.get("c")
            expected = network(z, c, truncation_psi=graph.truncation_psi, noise_mode="const")
        else:
            expected = network(inputs["image"])
        found = run(inputs)
        if found.shape != expected.shape:
            raise FacegenError(f"{path}: gives {list(found.shape)}, not {list(expected.shape)}: not written")
        difference = float((found - expected).abs().max())
        if not difference < MAX_DIFFERENCE:  # not a number is no difference that could be small
            raise FacegenError(f"{path}: differs by {difference:.2g} from PyTorch: not written")
        worst = max(worst, difference)
    return worst
