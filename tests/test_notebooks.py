"""The notebooks, run from top to bottom on small data, and the outputs that are kept in them."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from matplotlib.cbook import get_sample_data
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image, ImageOps

from facegen.ages import AgeGroups
from facegen.networks.encoder import Encoder
from facegen.networks.generator import Generator
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import save_networks

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = ("train_generator", "train_encoder", "age_transfer")
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(work|tmp|root|home|Users|usr|opt|mnt|var)/|[A-Z]:\\\\")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Weight files by setting: those that come with facegen; tiny untrained ones where they are missing."""
    folder = PRETRAINED
    if not all((folder / f"{name}.safetensors").is_file() for name in ("generator", "encoder")):
        folder = tmp_path_factory.mktemp("pretrained")
        torch.manual_seed(0)
        sizes = {"channel_base": 256, "channel_max": 16, "num_fp16_res": 0}
        generator = Generator(8, 10, 8, 16, 3, mapping_kwargs={"num_layers": 1}, synthesis_kwargs=sizes)
        header = {"groups": AgeGroups.default().labels}
        save_networks(folder / "generator.safetensors", {"G_ema": generator}, header)
        save_networks(folder / "encoder.safetensors", {"encoder": Encoder(8, 16, 75, (0, 0, 0))}, header)
    return {"GENERATOR": str(folder / "generator.safetensors"), "ENCODER": str(folder / "encoder.safetensors")}


@pytest.fixture(scope="module")
def utkface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures named as in UTKFace: one face, tinted, flipped and shifted; and a broken file."""
    folder = tmp_path_factory.mktemp("utkface")
    with get_sample_data("grace_hopper.jpg") as file:
        photo = Image.open(file).convert("RGB")
    random = np.random.default_rng(0)
    for number, age in enumerate([3, 8, 15, 26, 26, 34, 45, 55, 66, 77, 85, 95]):
        x, y = random.integers(-8, 8, 2)
        face = photo.crop((148 + x, 118 + y, 389 + x, 359 + y)).resize((64, 64), Image.Resampling.LANCZOS)
        tinted = Image.fromarray((np.asarray(face) * random.uniform(0.5, 1, 3)).astype(np.uint8))
        picture = ImageOps.mirror(tinted) if number % 2 else tinted
        picture.save(folder / f"{age}_1_0_2017{number:04d}.jpg")
    (folder / "30_1_0_20170200.jpg").write_bytes(b"no picture")
    return folder


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def run(notebook: nbformat.NotebookNode, folder: Path, settings: dict, facts: str = "{}", stop_after: str = "") -> dict:
    """Run a notebook with other settings.

    Args:
        folder: Where the kernel runs.
        settings: Replace values of the first code cell, which must have them.
        facts: A Python expression, evaluated in the kernel at the end; returned as JSON has it.
        stop_after: Run only up to the cell that holds this text.
    """
    first = next(index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code")
    known = set(re.findall(r"^([A-Z_]+) = ", notebook.cells[first].source, re.MULTILINE))
    assert settings.keys() <= known, f"not settings of the notebook: {settings.keys() - known}"
    if stop_after:
        last = next(index for index, cell in enumerate(notebook.cells) if stop_after in cell.source)
        del notebook.cells[last + 1 :]
    changed = "\n".join(f"{name} = {value!r}" for name, value in settings.items())
    notebook.cells.insert(first + 1, nbformat.v4.new_code_cell(changed))
    notebook.cells.append(nbformat.v4.new_code_cell(f"import json\nprint('facts', json.dumps({facts}))"))
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": folder}}).execute()
    return json.loads(printed(notebook).rsplit("facts ", 1)[1])


def printed(notebook: nbformat.NotebookNode) -> str:
    """All that the cells printed or wrote as text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return "\n".join(texts)


def shown(notebook: nbformat.NotebookNode) -> list[Image.Image]:
    """The pictures among the outputs."""
    found = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            encoded = data.get("image/png") or data.get("image/jpeg")
            if encoded:
                found.append(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGB"))
    return found


def is_varied(picture: Image.Image) -> bool:
    """Whether it shows something: a blank picture has no spread of levels."""
    return float(np.asarray(picture, dtype=np.float32).std()) > 5


def test_train_generator(utkface: Path, tmp_path: Path, weights: dict[str, str]):
    notebook = read("train_generator")
    facts = run(
        notebook,
        tmp_path,
        {
            "SOURCE": str(utkface),
            "OUTDIR": "runs",
            "RESOLUTION": 8,
            "KIMG": 1.0,
            "TICK": 0.25,
            "SNAP": 2,
            "GENERATOR": weights["GENERATOR"],
        },
        facts="{'run': str(run), 'faces': len(archive), 'filled': len(filled), 'snapshots': len(snapshots)}",
    )
    assert facts["faces"] == 12
    assert facts["filled"] == 10
    assert facts["snapshots"] == 2
    run_folder = tmp_path / facts["run"]
    assert run_folder.parent == tmp_path / "runs"
    assert (run_folder / "fakes000001.png").is_file()
    text = printed(notebook)
    assert "12 faces in runs/faces8.zip; left out: {'unreadable picture': 1}" in text
    assert "is not there" not in text
    assert "finished: 1.0 kimg" in text
    faces, histograms, reals, fakes, progress, curves = shown(notebook)
    assert all(map(is_varied, (faces, histograms, reals, fakes, progress, curves)))
    # Grids of ten columns of 64 pixels with gaps of 2; `progress` has words on its left.
    assert faces.width == reals.width == fakes.width == 10 * 66 - 2
    assert progress.width > faces.width
    assert faces.height == 4 * 66 - 2 + (reals.height - (8 * 66 - 2))


def test_train_generator_without_data(tmp_path: Path, weights: dict[str, str]):
    """A newcomer without UTKFace gets made faces and is told where the real ones are."""
    notebook = read("train_generator")
    facts = run(
        notebook,
        tmp_path,
        {
            "SOURCE": "nowhere/UTKFace.zip",
            "OUTDIR": "runs",
            "RESOLUTION": 16,
            "GENERATOR": weights["GENERATOR"],
            "MADE_FACES": 20,
        },
        facts="{'written': report.written, 'counts': list(report.archives[0]['groups'].values())}",
        stop_after="prepare(source",
    )
    assert facts == {"written": 20, "counts": [2] * 10}
    assert "nowhere/UTKFace.zip is not there; get UTKFace" in printed(notebook)


def test_train_encoder(tmp_path: Path, weights: dict[str, str]):
    notebook = read("train_encoder")
    facts = run(
        notebook,
        tmp_path,
        {"GENERATOR": weights["GENERATOR"], "OUTDIR": "runs", "PAIRS": 40, "EPOCHS": 2, "BATCH": 8},
        facts="{'run': str(run), 'best': best, 'pairs': len(pairs)}",
    )
    assert facts["pairs"] == 40
    assert facts["best"]["mean_baseline"] == pytest.approx(1, abs=0.2)  # 8 faces: the mean is a rough one
    assert (tmp_path / facts["run"] / "encoder-best.safetensors").is_file()
    assert "predicting the mean" in printed(notebook)
    pairs, curve, reconstructions, strip = shown(notebook)
    assert all(map(is_varied, (pairs, curve, reconstructions, strip)))
    assert (pairs.width + 2) % 10 == 0  # ten columns
    assert strip.width == 12 * 98 - 2  # input, reconstruction, ten groups at 96 pixels with gaps of 2


def test_age_transfer(tmp_path: Path, weights: dict[str, str]):
    notebook = read("age_transfer")
    ships = weights["GENERATOR"].startswith(str(PRETRAINED))  # then the notebook finds them by itself
    facts = run(
        notebook,
        tmp_path,
        {"OUTDIR": "out"} | ({} if ships else weights),
        facts="""{
            'ages': (age.min, age.max),
            'faces': [[setattr(age, 'value', years), hash(picture.value)][1] for years in range(5, 100, 9)],
            'files': sorted(path.name for path in paths),
        }""",
    )
    assert facts["ages"] == [5, 95]
    assert len(set(facts["faces"])) == 11  # every step of the slider draws another face
    assert len(facts["files"]) == 11
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == facts["files"]
    alignment, strip, years, ends = shown(notebook)
    assert all(map(is_varied, (alignment, strip, years, ends)))
    assert strip.width == 12 * 98 - 2
    assert years.width == 6 * 162 - 2  # input and five ages at 160 pixels
    assert ends.width == 3 * 162 - 2
    views = [out for cell in notebook.cells for out in cell.get("outputs", []) if "widget-view" in str(out.get("data"))]
    assert len(views) == 1


def test_age_transfer_without_a_face(tmp_path: Path, weights: dict[str, str]):
    Image.new("RGB", (200, 200), "green").save(tmp_path / "meadow.png")
    with pytest.raises(CellExecutionError, match=r"meadow\.png: 0 faces found"):
        run(
            read("age_transfer"),
            tmp_path,
            {"PHOTO": "meadow.png", "OUTDIR": "out", **weights},
            stop_after="find_faces(photo)",
        )


def test_kept_real_faces_are_mosaics():
    """The pictures of UTKFace may not be passed on, so scripts/run_notebooks.py coarsens them."""
    notebook = read("train_generator")
    notebook.cells = [cell for cell in notebook.cells if "real-faces" in cell.metadata.get("tags", [])]
    pictures = shown(notebook)
    assert len(pictures) == 2
    for picture in pictures:
        faces = picture.crop((0, 16, *picture.size))  # without the labels
        stones = faces.resize((faces.width // 8, faces.height // 8), Image.Resampling.BOX)
        mosaic = stones.resize(faces.size, Image.Resampling.NEAREST)
        # JPEG changes levels by 2 or so; the faces themselves differ from their mosaic by 15.
        assert np.abs(np.asarray(faces, dtype=float) - np.asarray(mosaic, dtype=float)).mean() < 5


@pytest.mark.parametrize("name", NAMES)
def test_kept_outputs(name: str):
    """What people see who only look at the files."""
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = read(name)
    nbformat.validate(notebook)
    assert path.stat().st_size < 1_500_000
    assert len(shown(notebook)) >= 4, "no pictures: run scripts/run_notebooks.py"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None, f"not run: {cell.source[:60]}"
        assert not MACHINE_PATH.search(cell.source)
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert not (output.output_type == "stream" and "Traceback" in output.text)
    assert not MACHINE_PATH.search(printed(notebook))
