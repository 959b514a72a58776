"""Run the notebooks from top to bottom and keep their outputs: what a maintainer does when code or weights change.

    python scripts/run_notebooks.py                 # all of notebooks/
    python scripts/run_notebooks.py age_transfer    # one of them

train_generator wants UTKFace at data/UTKFace.zip, or its outputs will show the faces that stand in for it. Pictures are
kept as JPEG of at most 1200 pixels across, so that the files stay small, and paths of this machine are cut short. Of
cells with the tag `real-faces` only mosaics are kept: the data sets' pictures may not be passed on.
"""

from __future__ import annotations

import argparse
import base64
import io
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from facegen.figures.grids import GAP, MIN_TILE
from facegen.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
MAX_WIDTH = 1200
MOSAIC = 8  # pixels of a mosaic's stone, where a face has 64
SHORTENED = {str(ROOT): "..", f"{Path.home()}/": "~/", f"{tempfile.gettempdir()}/": ""}


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: int = 7200) -> None:
    """Run a notebook in `folder`; outputs go into its cells. A cell that fails raises CellExecutionError."""
    notebook.metadata.pop("widgets", None)  # of an earlier run
    resources = {"metadata": {"path": str(folder)}}
    # Merging the pieces of a stream also leaves of each progress bar only how it ended.
    NotebookClient(notebook, timeout=timeout, resources=resources, coalesce_streams=True, record_timing=False).execute()


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Make the outputs small, and free of what belongs to this machine."""
    notebook.metadata.language_info = {"name": "python"}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = "\n".join(line.rstrip() for line in _shorten(output.text).split("\n"))
            elif "data" in output:
                output.data |= {kind: _shorten(text) for kind, text in output.data.items() if kind.startswith("text/")}
                _reduce_picture(output.data, is_private="real-faces" in cell.metadata.get("tags", []))


def _reduce_picture(data: dict[str, str], is_private: bool) -> None:
    """Replace the picture of an output by a JPEG, which notebooks often hold beside the PNG anyway."""
    encoded = data.pop("image/png", None)
    if encoded is None:
        return
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.width > MAX_WIDTH:
        picture = picture.resize(
            (MAX_WIDTH, round(picture.height * MAX_WIDTH / picture.width)), Image.Resampling.LANCZOS
        )
    if is_private:
        _make_mosaic(picture)
    jpeg = io.BytesIO()
    picture.convert("RGB").save(jpeg, format="JPEG", quality=88)
    data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()


def _make_mosaic(grid: Image.Image) -> None:
    """Coarsen the faces of an `image_grid` in place, beyond recognition; the labels over its columns stay legible."""
    top = (grid.height + GAP) % (MIN_TILE + GAP)
    faces = grid.crop((0, top, *grid.size))
    stones = faces.resize((faces.width // MOSAIC, faces.height // MOSAIC), Image.Resampling.BOX)
    grid.paste(stones.resize(faces.size, Image.Resampling.NEAREST), (0, top))


def _shorten(text: str) -> str:
    for long, short in SHORTENED.items():
        text = text.replace(long, short)
    return text


def main() -> None:
    names = sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    parser = argparse.ArgumentParser(description="Run notebooks and keep their outputs.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all by default")
    chosen = parser.parse_args().names or names
    if unknown := sorted(set(chosen) - set(names)):
        parser.error(f"no such notebook: {', '.join(unknown)}; there are {', '.join(names)}")
    for name in chosen:
        path = NOTEBOOKS / f"{name}.ipynb"
        print(f"running {path.relative_to(ROOT)}", flush=True)
        notebook = nbformat.read(path, as_version=4)
        execute(notebook, NOTEBOOKS)
        tidy(notebook)
        with atomic_path(path) as temporary:
            nbformat.write(notebook, temporary)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.2f} MB", flush=True)


if __name__ == "__main__":
    main()
