"""Write networks as graphs that run without facegen: ONNX and TorchScript.

All take and give float32 with any number of samples N; faces are `[N, 3, R, R]`, about -1..1:

    generator      z [N, z_dim], c [N, c_dim] -> image [N, channels, R, R]
    mapping        z, c -> ws [N, num_ws, w_dim], mean [N, w_dim]
    synthesis      ws -> image
    encoder        image, a face of the generator's resolution -> z, or ws for an encoder of w or w+
    age_shift      ws, from_ages [N], to_ages [N] in years -> aged, as ws
    age_estimator  image, a face of its own resolution -> age [N] in years
    editor         image [N, 3, H, W] of any size, ages [N], targets [N] in years -> picture, change, mask [N, 1, H, W]

c is missing where the network has no classes. Noise is that stored with the weights. Mapping and synthesis are the two
halves of a generator; `mean` is the mean w of a class, toward which `facegen.networks.latents.place_latents` moves what
an encoder of z is not sure of. docs/weights.md shows how they age a face.
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
from facegen.networks.age_estimator import AgeEstimator
from facegen.networks.age_shift import AgeShift
from facegen.networks.editor import Editor
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.networks.latents import group_means

OPSET = 18  # ONNX runtimes since the end of 2022 have it
METADATA_KEY = "facegen"
MAX_DIFFERENCE = 1e-3  # between a written graph and PyTorch; images span -1..1, latents about -3..3, ages are years
CHECKED_BATCHES = (1, 3)  # the example that a graph is made of has 2

_Inputs = dict[str, torch.Tensor]


class _Graph(nn.Module):
    """A network as it is written: `forward` takes the tensors of `example` and gives those that `outputs` names."""

    outputs: tuple[str, ...] = ("image",)
    any_size = False  # whether pictures may have any height and width

    def example(self, batch: int) -> _Inputs:
        """Random inputs, the same every time."""
        raise NotImplementedError

    def expected(self, inputs: _Inputs) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """What our network makes of them."""
        return self(*inputs.values())


class _GeneratorGraph(_Graph):
    """The generator with truncation and noise fixed."""

    def __init__(self, generator: Generator, truncation_psi: float) -> None:
        super().__init__()
        self.generator = generator
        self.truncation_psi = truncation_psi

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> torch.Tensor:
        return self.generator(z, c, truncation_psi=self.truncation_psi, noise_mode="const")

    def example(self, batch: int) -> _Inputs:
        return _random_latents(self.generator, batch)


class _MappingGraph(_Graph):
    """A generator's first half, and the mean w of each class."""

    outputs = ("ws", "mean")
    means: torch.Tensor

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.mapping = generator.mapping
        self.z_dim, self.c_dim = generator.z_dim, generator.c_dim
        self.register_buffer("means", group_means(generator))

    def forward(self, z: torch.Tensor, c: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        mean = self.means.expand(z.shape[0], -1) if c is None else c @ self.means
        return self.mapping(z, c), mean

    def example(self, batch: int) -> _Inputs:
        return _random_latents(self, batch)


class _SynthesisGraph(_Graph):
    """A generator's second half, with the noise fixed."""

    def __init__(self, generator: Generator) -> None:
        super().__init__()
        self.synthesis = generator.synthesis
        self.shape = [generator.num_ws, generator.w_dim]

    def forward(self, ws: torch.Tensor) -> torch.Tensor:
        return self.synthesis(ws, noise_mode="const")

    def example(self, batch: int) -> _Inputs:
        return {"ws": torch.randn([batch, *self.shape], generator=torch.Generator().manual_seed(batch))}


class _EncoderGraph(_Graph):
    """The encoder, its resizing written as two products with a constant matrix: any runtime has those."""

    resize: torch.Tensor

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.outputs = ("z",) if encoder.target == "z" else ("ws",)
        self.encoder, self.resolution = encoder, encoder.img_resolution
        # Resizing is linear along each axis, so what it makes of the unit matrix is the matrix that resizes.
        unit = torch.eye(self.resolution)[None, None]
        size = (encoder.input_size, self.resolution)
        self.register_buffer("resize", functional.interpolate(unit, size, mode="bilinear", antialias=True)[0, 0])

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        if self.resize.shape[0] != self.resize.shape[1]:
            image = self.resize @ image @ self.resize.t()
        return self.encoder(image)

    def example(self, batch: int) -> _Inputs:
        return _random_faces(self.resolution, batch)

    def expected(self, inputs: _Inputs) -> torch.Tensor:
        return self.encoder(inputs["image"])


class _AgeShiftGraph(_Graph):
    """The age shift as a sum over the steps between neighboring groups: runtimes cannot look up an age in a table."""

    outputs = ("aged",)  # ONNX wants a name that no input has
    ages: torch.Tensor
    steps: torch.Tensor

    def __init__(self, shift: AgeShift) -> None:
        super().__init__()
        self.shift = shift
        self.register_buffer("ages", torch.tensor(shift.ages))
        self.register_buffer("steps", shift.table.detach().diff(dim=0).flatten(1))

    def _steps_done(self, ages: torch.Tensor) -> torch.Tensor:
        """How much of each step lies before ages `[N]`, 0..1: `[N, c_dim - 1]`."""
        return ((ages[:, None] - self.ages[:-1]) / self.ages.diff()).clamp(0, 1)

    def forward(self, ws: torch.Tensor, from_ages: torch.Tensor, to_ages: torch.Tensor) -> torch.Tensor:
        change = (self._steps_done(to_ages) - self._steps_done(from_ages)) @ self.steps
        return ws + change.unflatten(1, (self.shift.num_ws, self.shift.w_dim))

    def example(self, batch: int) -> _Inputs:
        random = torch.Generator().manual_seed(batch)
        first, last = self.shift.ages[0] - 10, self.shift.ages[-1] + 10
        from_ages, to_ages = (first + (last - first) * torch.rand([2, batch], generator=random)).unbind()
        ws = torch.randn([batch, self.shift.num_ws, self.shift.w_dim], generator=random)
        return {"ws": ws, "from_ages": from_ages, "to_ages": to_ages}

    def expected(self, inputs: _Inputs) -> torch.Tensor:
        return self.shift(*inputs.values())


class _AgeEstimatorGraph(_Graph):
    """The age estimator for faces of the size that it works at."""

    outputs = ("age",)

    def __init__(self, estimator: AgeEstimator) -> None:
        super().__init__()
        self.estimator = estimator

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.estimator.predict(image)

    def example(self, batch: int) -> _Inputs:
        return _random_faces(self.estimator.input_size, batch)


class _EditorGraph(_Graph):
    """The editor, its resizing written as two products with matrices: those do not need to know the size beforehand."""

    outputs = ("picture", "change", "mask")
    any_size = True

    def __init__(self, editor: Editor) -> None:
        super().__init__()
        self.editor = editor

    def forward(
        self, image: torch.Tensor, ages: torch.Tensor, targets: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        side, size = self.editor.inner_size, image.shape[2:]
        small = _resizing(size[0], side) @ image @ _resizing(size[1], side).t()
        plan = self.editor.plan(small, ages, targets)
        plan = functional.interpolate(plan, size, mode="bilinear", align_corners=False)
        change, mask = self.editor.draw(image, ages, targets, plan)
        return image + mask * change, change, mask

    def example(self, batch: int) -> _Inputs:
        random = torch.Generator().manual_seed(batch)
        image = torch.rand([batch, 3, 48 * batch, 40 + 48 * batch], generator=random) * 2 - 1  # larger, smaller, oblong
        first, last = self.editor.ages
        ages, targets = (first + (last - first) * torch.rand([2, batch], generator=random)).unbind()
        return {"image": image, "ages": ages, "targets": targets}

    def expected(self, inputs: _Inputs) -> tuple[torch.Tensor, ...]:
        change, mask = self.editor.change(*inputs.values())
        return self.editor(*inputs.values()), change, mask


def _resizing(length: int, side: int) -> torch.Tensor:
    """Return the matrix `[side, length]` that resizes an axis as PyTorch's antialiased bilinear interpolation does."""
    place = (torch.arange(length) + 0.5) * (side / length)  # of each pixel, in pixels of the result
    reach = (2 * place[:1]).clamp(min=1)  # a pixel of the result takes what lies so near
    weights = (1 - (place - torch.arange(side)[:, None] - 0.5).abs() / reach).clamp(min=0)
    return weights / weights.sum(dim=1, keepdim=True)


def _random_latents(generator: Generator | _MappingGraph, batch: int) -> _Inputs:
    z = torch.randn([batch, generator.z_dim], generator=torch.Generator().manual_seed(batch))
    c_dim = generator.c_dim
    return {"z": z, "c": torch.eye(c_dim)[torch.arange(batch) % c_dim]} if c_dim else {"z": z}


def _random_faces(resolution: int, batch: int) -> _Inputs:
    shape = [batch, 3, resolution, resolution]
    return {"image": torch.rand(shape, generator=torch.Generator().manual_seed(batch)) * 2 - 1}


def export_onnx(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    part: str | None = None,
    truncation_psi: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
) -> float:
    """Write a network as ONNX and compare it with PyTorch before the file gets its name.

    Args:
        network: A `Generator`, `Encoder`, `AgeShift`, `AgeEstimator` or `Editor`.
        path: The file, by custom `*.onnx`.
        part: `mapping` or `synthesis` of a generator; None takes all of it.
        truncation_psi: The truncation of a whole generator, fixed in the graph.
        metadata: What JSON can hold (age groups, alignment template, ...), stored under the model's metadata.

    Returns:
        The largest difference from PyTorch that was found.

    Raises:
        FacegenError: another kind of network, a missing package, or a graph that does not compute the same.
    """
    graph = _graph(network, part, truncation_psi)
    try:
        import onnxruntime
        import onnxscript  # noqa: F401 (the exporter needs it)
    except ImportError as error:
        raise FacegenError(f"ONNX needs the package {error.name}: pip install 'facegen[onnx]'") from error

    inputs = graph.example(2)
    batch = torch.export.Dim("batch")
    sides = {2: torch.export.Dim("height"), 3: torch.export.Dim("width")} if graph.any_size else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about deprecations inside the exporter
        program = torch.onnx.export(
            graph,
            tuple(inputs.values()),
            dynamo=True,
            dynamic_shapes=tuple({0: batch, **(sides if x.ndim == 4 else {})} for x in inputs.values()),
            input_names=list(inputs),
            output_names=list(graph.outputs),
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

        def run(inputs: _Inputs) -> tuple[torch.Tensor, ...]:
            return tuple(map(torch.from_numpy, session.run(None, {name: x.numpy() for name, x in inputs.items()})))

        return _compare(graph, run, Path(path))


def export_torchscript(
    network: nn.Module,
    path: str | os.PathLike[str],
    *,
    part: str | None = None,
    truncation_psi: float = 1.0,
    metadata: Mapping[str, Any] | None = None,
) -> float:
    """Write a network as TorchScript, for `torch.jit.load` and libtorch; otherwise as `export_onnx`.

    The metadata is the extra file `facegen.json` in the archive.
    """
    graph = _graph(network, part, truncation_psi)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated; shape checks are constants in a trace, as is meant
        traced = torch.jit.trace(graph, tuple(graph.example(2).values()), check_trace=False)
        extra = {} if metadata is None else {f"{METADATA_KEY}.json": json.dumps(metadata)}
        with atomic_path(path) as temporary:
            temporary.write_bytes(traced.save_to_buffer(_extra_files=extra))  # its `save` aborts on a full disk
            loaded = torch.jit.load(str(temporary))
            return _compare(graph, lambda inputs: loaded(*inputs.values()), Path(path))


def _graph(network: nn.Module, part: str | None, truncation_psi: float) -> _Graph:
    network = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    graph: _Graph
    if isinstance(network, Generator):
        halves = {"mapping": _MappingGraph, "synthesis": _SynthesisGraph}
        graph = halves[part](network) if part in halves else _GeneratorGraph(network, truncation_psi)
    elif isinstance(network, Encoder):
        graph = _EncoderGraph(network)
    elif isinstance(network, AgeShift):
        graph = _AgeShiftGraph(network)
    elif isinstance(network, AgeEstimator):
        graph = _AgeEstimatorGraph(network)
    elif isinstance(network, Editor):
        graph = _EditorGraph(network)
    else:
        raise FacegenError(
            f"a {type(network).__name__.lower()} has no use as ONNX or TorchScript: choose another network"
        )
    return graph.eval()


@torch.no_grad()
def _compare(graph: _Graph, run: Callable[[_Inputs], torch.Tensor | tuple[torch.Tensor, ...]], path: Path) -> float:
    """Return the largest difference of a written graph from our network; FacegenError when it is too large."""
    worst = 0.0
    for batch in CHECKED_BATCHES:
        inputs = graph.example(batch)
        for expected, found in zip(_all(graph.expected(inputs)), _all(run(inputs)), strict=True):
            if found.shape != expected.shape:
                raise FacegenError(f"{path}: gives {list(found.shape)}, not {list(expected.shape)}: not written")
            difference = float((found - expected).abs().max())
            if not difference < MAX_DIFFERENCE:  # not a number is no difference that could be small
                raise FacegenError(f"{path}: differs by {difference:.2g} from PyTorch: not written")
            worst = max(worst, difference)
    return worst


def _all(outputs: torch.Tensor | tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (outputs,) if isinstance(outputs, torch.Tensor) else outputs
