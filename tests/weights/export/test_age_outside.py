"""A face is aged by exported graphs alone, with numpy and onnxruntime or libtorch, as docs/weights.md shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from helpers import HOPPER, small_encoder, small_estimator, small_generator
from PIL import Image

from facegen.ages import AgeGroups
from facegen.aging.transfer import AgeTransfer
from facegen.cli import main
from facegen.networks.age_shift import AgeShift
from facegen.weights.native import save_networks

GROUPS = AgeGroups.parse("0-20,21-40,41-60,71-80")
MIDDLES = [float(GROUPS.middle_age(group)) for group in range(4)]
TOLERANCE = 2e-4

Run = Callable[..., list[np.ndarray]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generator, age estimator, encoders of every target; those of w with an age shift."""
    folder, header = tmp_path_factory.mktemp("networks"), {"groups": GROUPS.labels}
    generator, estimator = small_generator(4), small_estimator()
    torch.nn.init.normal_(generator.mapping.embed.weight)
    torch.nn.init.normal_(estimator.head.weight)
    save_networks(folder / "generator.safetensors", {"G_ema": generator}, header)
    save_networks(folder / "age.safetensors", {"age": estimator}, header)
    for target in ("z", "w", "w+"):
        encoder, shift = small_encoder(target=target), AgeShift(4, generator.num_ws, 8, MIDDLES)
        torch.nn.init.normal_(encoder.head.weight, std=0.1)
        torch.nn.init.normal_(shift.table)
        networks = {"encoder": encoder} | ({} if target == "z" else {"age_shift": shift})
        save_networks(folder / f"{target}.safetensors", networks, header)
    return folder


def convert(source: Path, destination: Path, *options: str) -> Path:
    result = CliRunner().invoke(main, ["convert", str(source), str(destination), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "checked: " in result.output
    return destination


def run_onnx(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    import onnxruntime

    return onnxruntime.InferenceSession(path).run(None, inputs)


def run_torchscript(path: Path, **inputs: np.ndarray) -> list[np.ndarray]:
    outputs = torch.jit.load(str(path))(*map(torch.from_numpy, inputs.values()))
    return [x.numpy() for x in ((outputs,) if isinstance(outputs, torch.Tensor) else outputs)]


def exported(folder: Path, target: str, suffix: str, outdir: Path) -> dict[str, Path]:
    """The graphs that age a face, by name."""
    to = ["--to", "onnx" if suffix == ".onnx" else "torchscript"]
    made = {"encoder": convert(folder / f"{target}.safetensors", outdir / f"encoder{suffix}", *to)}
    parts = ["synthesis", "mapping"] if target == "z" else ["synthesis"]
    for part in parts:
        made[part] = convert(folder / "generator.safetensors", outdir / f"{part}{suffix}", *to, "--only", part)
    if target != "z":
        shift = convert(folder / f"{target}.safetensors", outdir / f"shift{suffix}", *to, "--only", "age_shift")
        made |= {"shift": shift, "age": convert(folder / "age.safetensors", outdir / f"age{suffix}", *to)}
    return made


def aged_outside(graphs: dict[str, Path], run: Run, image: np.ndarray, own: float | None) -> np.ndarray:
    """Faces at every middle age, by numpy and graphs."""
    (latent,) = run(graphs["encoder"], image=image)
    pictures = []
    for group, years in enumerate(MIDDLES):
        if "mapping" in graphs:
            ws, mean = run(graphs["mapping"], z=latent, c=np.eye(4, dtype=np.float32)[[group]])
            sure = np.minimum(1, np.sqrt(np.square(latent).mean()))
            ws = mean[:, None] + sure * (ws - mean[:, None])
        else:
            age = run(graphs["age"], image=image)[0] if own is None else np.float32([own])
            (ws,) = run(graphs["shift"], ws=latent, from_ages=age, to_ages=np.float32([years]))
        pictures += run(graphs["synthesis"], ws=ws)
    return np.concatenate(pictures)


def assert_ages_outside(folder: Path, target: str, suffix: str, run: Run, outdir: Path) -> None:
    transfer = AgeTransfer.from_files(
        folder / "generator.safetensors",
        folder / f"{target}.safetensors",
        age_estimator=folder / "age.safetensors",
        device="cpu",
    )
    face = transfer.to_tensor([Image.open(HOPPER).crop((140, 40, 360, 260))])
    graphs = exported(folder, target, suffix, outdir)
    for own in (None, 79.0, 33.3):  # one lies beyond the last middle
        expected = transfer.render(face, MIDDLES, input_ages=None if own is None else [own]).aged[0]
        found = aged_outside(graphs, run, face.numpy(), own)
        assert np.abs(found - expected.numpy()).max() < TOLERANCE
    assert np.abs(np.diff(found, axis=0)).max() > 100 * TOLERANCE  # the ages differ


@pytest.mark.parametrize("target", ["z", "w", "w+"])
@pytest.mark.filterwarnings("ignore:.*only sizes")
def test_torchscript_ages_a_face(folder: Path, tmp_path: Path, target: str):
    assert_ages_outside(folder, target, ".pt", run_torchscript, tmp_path)


# torch's ONNX exporter takes 10 s and more a network on a slow core.
@pytest.mark.parametrize("target", [pytest.param(t, marks=pytest.mark.slow) for t in ("z", "w")] + ["w+"])
@pytest.mark.filterwarnings("ignore:.*only sizes")
def test_onnx_ages_a_face(folder: Path, tmp_path: Path, target: str):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert_ages_outside(folder, target, ".onnx", run_onnx, tmp_path)
