"""The notebooks, run from top to bottom on small data, and the outputs that are kept in them."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from helpers import HOPPER, crops, small_generator
from IPython.core.inputtransformer2 import TransformerManager
from jupyter_client import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image

from facegen.ages import AgeGroups
from facegen.weights.locate import PRETRAINED
from facegen.weights.native import save_networks

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = ("train_generator", "train_encoder", "age_transfer", "explore_latents")
needs_weights = pytest.mark.skipif(
    not (PRETRAINED / "generator.safetensors").is_file(), reason="this copy of facegen comes without weights"
)
MACHINE_PATH = re.compile(r"(?<![\w.~/])/(work|tmp|root|home|Users|usr|opt|mnt|var)/|[A-Z]:\\\\")


@pytest.fixture(scope="module")
def kernel() -> Iterator[KernelManager]:
    """One process for all notebooks, which import torch once."""
    manager = KernelManager(kernel_name="python3")
    yield manager
    if manager.has_kernel:
        manager.shutdown_kernel(now=True)


@pytest.fixture(scope="module")
def generator(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A narrow generator that has learned nothing."""
    path = tmp_path_factory.mktemp("weights") / "generator.safetensors"
    save_networks(path, {"G_ema": small_generator(10, 32)}, {"groups": AgeGroups.default().labels})
    return str(path)


@pytest.fixture(scope="module")
def utkface(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve pictures named as in UTKFace, and a broken file."""
    folder = tmp_path_factory.mktemp("utkface")
    ages = [3, 8, 15, 26, 26, 34, 45, 55, 66, 77, 85, 95]
    for number, (age, face) in enumerate(zip(ages, crops(12, 64), strict=True)):
        face.save(folder / f"{age}_1_0_2017{number:04d}.jpg")
    (folder / "30_1_0_20170200.jpg").write_bytes(b"no picture")
    return folder


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def run(
    kernel: KernelManager,
    notebook: nbformat.NotebookNode,
    folder: Path,
    settings: dict,
    facts: str = "{}",
    stop_after: str = "",
) -> dict:
    """Run a notebook with other settings, in a kernel without names.

    Args:
        folder: Where the notebook runs.
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
    notebook.cells.insert(0, nbformat.v4.new_code_cell(f"import os\nos.chdir({str(folder)!r})\n%reset -f"))
    NotebookClient(notebook, timeout=300, km=kernel).execute()
    return json.loads(printed(notebook).rsplit("facts ", 1)[1])


def outputs(cell: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The outputs of a cell that have data."""
    return [output for output in cell.get("outputs", []) if "data" in output]


def pink(notebook: nbformat.NotebookNode) -> list[str]:
    """What went to stderr, which notebooks show on pink: warnings, and bars of tqdm."""
    every = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return [output.text for output in every if output.output_type == "stream" and output.name == "stderr"]


def widget_views(notebook: nbformat.NotebookNode) -> list[nbformat.NotebookNode]:
    """The outputs that show a widget."""
    return [output for cell in notebook.cells for output in outputs(cell) if "widget-view" in str(output.data.keys())]


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


def test_train_generator(kernel: KernelManager, utkface: Path, tmp_path: Path):
    notebook = read("train_generator")
    facts = run(
        kernel,
        notebook,
        tmp_path,
        {"SOURCE": str(utkface), "OUTDIR": "runs", "RESOLUTION": 8, "KIMG": 0.5, "BATCH": 32, "TICK": 0.125, "SNAP": 2},
        facts="{'run': str(run), 'faces': len(archive), 'filled': len(filled), 'snapshots': len(snapshots)}",
    )
    assert facts["faces"] == 12
    assert facts["filled"] == 10
    assert facts["snapshots"] == 2
    run_folder = tmp_path / facts["run"]
    assert run_folder.parent == tmp_path / "runs"
    text = printed(notebook)
    assert "12 faces in runs/faces8.zip; left out: {'unreadable picture': 1}" in text
    assert "kimg 0.2" not in text, "lines of the log belong into log.txt, as the picture shows how the run stands"
    assert "finished: 0.5 kimg" in (run_folder / "log.txt").read_text(encoding="utf-8")
    assert not pink(notebook)
    faces, histogram, live, reals, fakes, progress = shown(notebook)
    assert all(map(is_varied, (faces, histogram, live, reals, fakes, progress)))
    with Image.open(run_folder / "fakes000000_512.png") as newest:
        assert np.array_equal(fakes, newest.convert("RGB"))
    # Grids of ten columns of 64 pixels with gaps of 2; `progress` has words on its left.
    assert reals.width == fakes.width == 10 * 66 - 2
    assert progress.width > fakes.width


@needs_weights
def test_train_generator_without_data(kernel: KernelManager, tmp_path: Path):
    """A newcomer without a data set gets made faces."""
    facts = run(
        kernel,
        read("train_generator"),
        tmp_path,
        {"OUTDIR": "runs", "RESOLUTION": 16, "MADE_FACES": 20},
        facts="{'written': report.written, 'counts': list(report.archives[0]['groups'].values()), 'is': dataset.name}",
        stop_after="prepare(source",
    )
    assert facts == {"written": 20, "counts": [2] * 10, "is": "folders"}  # not called UTKFace


def test_train_encoder(kernel: KernelManager, tmp_path: Path, generator: str):
    notebook = read("train_encoder")
    facts = run(
        kernel,
        notebook,
        tmp_path,
        {"GENERATOR": generator, "OUTDIR": "runs", "PAIRS": 30, "EPOCHS": 2, "BATCH": 12},
        facts="{'run': str(run), 'best': best, 'pairs': len(pairs)}",
    )
    assert facts["pairs"] == 40  # shown before it trains
    assert facts["best"]["mean_baseline"] == pytest.approx(1, abs=0.25)  # 6 faces: the mean is a rough one
    assert (tmp_path / facts["run"] / "encoder-best.safetensors").is_file()
    assert "predicting the mean" in printed(notebook)
    assert not pink(notebook)
    pairs, live, reconstructions, photos, strip = shown(notebook)
    assert all(map(is_varied, (pairs, live, reconstructions, photos, strip)))
    assert (pairs.width + 2) % 10 == 0  # ten columns
    assert strip.width == 6 * 162 - 2  # input, reconstruction, ten groups: two rows at 160 pixels with gaps of 2


@needs_weights
def test_age_transfer(kernel: KernelManager, tmp_path: Path):
    """With the weights that come with facegen, which the notebook finds by itself."""
    notebook = read("age_transfer")
    facts = run(
        kernel,
        notebook,
        tmp_path,
        {"OUTDIR": "out", "REFINE": 2},
        facts="""{
            'faces': [[setattr(slider, 'value', years), hash(view.value)][1] for years in steps],
            'files': sorted(file.name for file in saved),
            'frames': __import__('PIL.Image').Image.open(video).n_frames,
        }""",
    )
    assert len(set(facts["faces"])) > 14  # of 17 steps, all but those close to the age in the photo
    assert len(facts["files"]) == 11
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == facts["files"]
    assert facts["frames"] > 20
    assert not pink(notebook)
    alignment, photos, pair, drawn, strengths, refined, refined_photos = shown(notebook)
    assert all(map(is_varied, (alignment, photos, pair, drawn, strengths, refined, refined_photos)))
    assert photos.width == 5 * 162 - 2  # the photo and nine ages, two rows
    assert drawn.width == 6 * 162 - 2
    assert len(widget_views(notebook)) == 2  # the button and the slider
    pages = [out.data["text/html"] for cell in notebook.cells for out in outputs(cell) if "text/html" in out.data]
    assert ["data:image/jpeg" in page for page in pages] == [True, False]  # the comparison, the video
    assert not any("http" in page for page in pages)


@needs_weights
def test_an_uploaded_photo(kernel: KernelManager, tmp_path: Path):
    """As ipywidgets 8 gives it, and version 7, which Colab has."""
    content = Path(HOPPER).read_bytes()
    notebook = read("age_transfer")
    button = next(cell for cell in notebook.cells if "FileUpload" in cell.source)
    for value in ({"name": "me.jpg", "content": content}, {"metadata": {"name": "../me.jpg"}, "content": content}):
        values = (value,) if "name" in value else {"../me.jpg": value}
        button.source = f"from types import SimpleNamespace\nupload = SimpleNamespace(value={values!r})"
        part = copy.deepcopy(notebook)
        facts = run(kernel, part, tmp_path, {"OUTDIR": "out"}, "[input_age]", stop_after="open_original(path)")
        assert facts == [None]
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["me.jpg"]


@needs_weights
@pytest.mark.parametrize(("given", "expected"), [({}, None), ({"INPUT_AGE": 30}, 30)])
def test_the_age_of_another_photo_is_estimated(
    kernel: KernelManager, tmp_path: Path, given: dict, expected: int | None
):
    Image.open(HOPPER).save(tmp_path / "other.png")
    settings = {"PHOTO": "other.png", "OUTDIR": "out", **given}
    facts = run(kernel, read("age_transfer"), tmp_path, settings, "[input_age]", stop_after="open_original(path)")
    assert facts == [expected]


@needs_weights
def test_age_transfer_without_a_face(kernel: KernelManager, tmp_path: Path):
    Image.new("RGB", (200, 200), "green").save(tmp_path / "meadow.png")
    settings = {"PHOTO": "meadow.png", "OUTDIR": "out"}
    notebook = read("age_transfer")
    with pytest.raises(CellExecutionError, match=r"meadow\.png: 0 faces found"):
        run(kernel, notebook, tmp_path, settings, stop_after="find_faces(photo)")
    (error,) = [out for cell in notebook.cells for out in cell.get("outputs", []) if out.output_type == "error"]
    assert error.traceback == ["FacegenError: meadow.png: 0 faces found, so there is no face number 0"]


@needs_weights
def test_explore_latents(kernel: KernelManager, tmp_path: Path):
    """With the generator that comes with facegen, and a projection that has only begun."""
    notebook = read("explore_latents")
    facts = run(
        kernel,
        notebook,
        tmp_path,
        {"OUTDIR": "out", "STEPS": 2},
        facts="""{
            'ages': [label.name for label in labels],
            'moved': [[setattr(degree, 'value', amount), hash(view.value)][1] for amount in (-3.0, 0.0, 3.0)],
            'loss': found.loss,
        }""",
    )
    assert facts["ages"][0] == "age5"
    assert len(set(facts["moved"])) == 3
    assert 0 < facts["loss"] < 10
    assert "looks" in printed(notebook)
    assert not pink(notebook)
    seeds, truncated, mixed, projected, directions, degrees = shown(notebook)
    assert all(map(is_varied, (seeds, truncated, mixed, projected, directions, degrees)))
    assert len(widget_views(notebook)) == 1
    with Image.open(tmp_path / "out" / "ages-of-seed-2.gif") as video:
        assert video.n_frames == 2 * 12 - 2  # there and back


@needs_weights
@pytest.mark.parametrize(("name", "pictures"), [("age_transfer", 7), ("explore_latents", 6)])
def test_without_widgets_there_are_pictures(kernel: KernelManager, tmp_path: Path, name: str, pictures: int):
    notebook = read(name)
    few = {"age_transfer": {"REFINE": 1, "AGES": [5, 35, 85]}, "explore_latents": {"STEPS": 1}}[name]
    blocked = "import sys\nsys.modules['ipywidgets'] = None  # as if it were not installed\n"
    notebook.cells[1].source = blocked + notebook.cells[1].source
    run(kernel, notebook, tmp_path, {"OUTDIR": "out", **few}, "sys.modules.pop('ipywidgets')")
    assert len(shown(notebook)) == pictures
    assert not widget_views(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_a_first_cell_installs_facegen_where_it_is_missing(name: str):
    """As in Colab, where there is no clone. Where facegen is, nothing is installed."""
    source = next(cell.source for cell in read(name).cells if cell.cell_type == "code")
    asked = []
    shell = SimpleNamespace(run_line_magic=lambda magic, line: asked.append((magic, line)))
    code = TransformerManager().transform_cell(source)
    exec(code, {"get_ipython": lambda: shell})
    assert asked == []
    exec(code.replace('find_spec("facegen")', 'find_spec("facegen_that_is_missing")'), {"get_ipython": lambda: shell})
    assert asked == [("pip", 'install -q "git+https://github.com/ORGANIZATION/facegen"')]


@pytest.mark.parametrize("name", NAMES)
def test_kept_outputs(name: str):
    """What people see who only look at the files."""
    path = NOTEBOOKS / f"{name}.ipynb"
    notebook = read(name)
    nbformat.validate(notebook)
    assert path.stat().st_size < 700_000
    assert len(shown(notebook)) >= 4, "no pictures: run scripts/run_notebooks.py"
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.execution_count is not None, f"not run: {cell.source[:60]}"
        assert not MACHINE_PATH.search(cell.source)
        for output in cell.get("outputs", []):
            assert output.output_type != "error"
            assert not (output.output_type == "stream" and "Traceback" in output.text)
            assert len(output.get("text", "").splitlines()) < 12, "a log belongs into a file"
    assert not pink(notebook)
    assert not widget_views(notebook), "a widget without its kernel is an error message"
    assert not MACHINE_PATH.search(printed(notebook))
    if name == "train_generator":  # the pictures of a data set may not be passed on
        assert "SOURCE = None" in notebook.cells[1].source
        assert "made faces, in a folder" in printed(notebook)
