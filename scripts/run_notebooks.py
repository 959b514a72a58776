"""Run the notebooks from top to bottom and keep their outputs: what a maintainer does when code or weights change.

    python scripts/run_notebooks.py                 # all of notebooks/
    python scripts/run_notebooks.py age_transfer    # one of them

Each runs in an empty folder, as it needs no clone. Pictures are kept as JPEG of at most 1000 pixels across, so that the
files stay small, paths of this machine are cut short, and widgets, which need a kernel, are left out.

At the end stands how long each took, beside what its first lines say. On a machine that does other things, too, half of
the processor time is what two free cores would take at least.
"""

from __future__ import annotations

import argparse
import base64
import io
import re
import tempfile
import time
from pathlib import Path

import nbformat
import psutil
from nbclient import NotebookClient
from PIL import Image

from facegen.files import atomic_path

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = ROOT / "notebooks"
MAX_WIDTH = 1000
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(notebook: nbformat.NotebookNode, folder: Path, timeout: int = 7200) -> tuple[float, float]:
    """Run a notebook in `folder`; outputs go into its cells. A cell that fails raises CellExecutionError.

    Returns:
        minutes on the clock, and of the processor.
    """
    used = [0.0]

    def look(**of_cell: object) -> None:
        times = psutil.Process(client.km.provisioner.pid).cpu_times()
        used[0] = times.user + times.system

    client = NotebookClient(
        notebook,
        timeout=timeout,
        resources={"metadata": {"path": str(folder)}},
        coalesce_streams=True,
        record_timing=False,
        on_cell_executed=look,
    )
    start = time.monotonic()
    client.execute()
    return (time.monotonic() - start) / 60, used[0] / 60


def tidy(notebook: nbformat.NotebookNode, folder: Path) -> None:
    """Make the outputs small, and free of what belongs to this machine and to the kernel that ran."""
    notebook.metadata.language_info = {"name": "python"}
    notebook.metadata.pop("widgets", None)
    shortened = {f"{folder}/": "", f"{ROOT}/": "", f"{Path.home()}/": "~/", f"{tempfile.gettempdir()}/": ""}
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
        for output in cell.get("outputs", []):
            if output.output_type == "stream":
                output.text = "\n".join(line.rstrip() for line in _shorten(output.text, shortened).split("\n"))
            elif "data" in output:
                texts = {kind: text for kind, text in output.data.items() if kind.startswith("text/")}
                output.data |= {kind: _shorten(text, shortened) for kind, text in texts.items()}
                _reduce_picture(output.data)


def _reduce_picture(data: dict[str, str]) -> None:
    """Replace the picture of an output by a JPEG, which notebooks often hold beside the PNG anyway."""
    encoded = data.pop("image/png", None)
    if encoded is None:
        return
    picture = Image.open(io.BytesIO(base64.b64decode(encoded)))
    if picture.width > MAX_WIDTH:
        picture = picture.resize(
            (MAX_WIDTH, round(picture.height * MAX_WIDTH / picture.width)), Image.Resampling.LANCZOS
        )
    jpeg = io.BytesIO()
    picture.convert("RGB").save(jpeg, format="JPEG", quality=80, optimize=True)
    data["image/jpeg"] = base64.b64encode(jpeg.getvalue()).decode()


def _shorten(text: str, shortened: dict[str, str]) -> str:
    for long, short in shortened.items():
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
        with tempfile.TemporaryDirectory() as folder:
            minutes, of_processor = execute(notebook, Path(folder))
            tidy(notebook, Path(folder))
        with atomic_path(path) as temporary:
            nbformat.write(notebook, temporary)
        said = re.search(r"\*\*Time: (.*?)\*\*", notebook.cells[0].source)
        print(
            f"{path.relative_to(ROOT)}: {path.stat().st_size / 1e6:.2f} MB, {minutes:.1f} minutes "
            f"({of_processor:.1f} of processor time); it says {said[1] if said else 'nothing'}",
            flush=True,
        )


if __name__ == "__main__":
    main()
