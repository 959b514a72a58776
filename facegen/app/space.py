"""A folder that is a Hugging Face Space: the page of `facegen app`, for everybody who visits it."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from facegen.errors import FacegenError
from facegen.files import atomic_path

SOURCE = "git+https://github.com/ORGANIZATION/facegen"
PYTHON = "3.12"  # one that facegen and PyTorch both know
KEPT = {".git", ".gitattributes"}  # of the repository that a new Space already is

# A Space sets the two variables. It has no password: whoever may open the Space may open the page.
APP = '''"""The page of facegen, for everybody who visits this Space. Made by `facegen app --export-space`."""

import os

from facegen.app.serve import serve

if __name__ == "__main__":
    serve(
        host=os.environ.get("GRADIO_SERVER_NAME", "0.0.0.0"),
        port=int(os.environ.get("GRADIO_SERVER_PORT", "7860")),
        public=True,
    )
'''
REQUIREMENTS = f"""# The small PyTorch, for a machine without a GPU. Delete this line on one with a GPU.
--extra-index-url https://download.pytorch.org/whl/cpu
facegen[app,heic,video] @ {SOURCE}
"""
README = """---
title: facegen
emoji: 🕰️
colorFrom: blue
colorTo: gray
sdk: gradio
sdk_version: {gradio}
python_version: "{python}"
app_file: app.py
pinned: false
license: other
short_description: Change the apparent age of a face in a photo
tags:
  - face-aging
  - age-transfer
  - image-to-image
  - stylegan2
---

# facegen

Drop a photo and move the slider: the person stays, the age moves.

- Photos go to the machine that runs this Space, and are deleted there after an hour. Take photos of people who agree.
- Results carry a mark that says that a program changed the faces.
- The code has the Apache License, Version 2.0. The weights were trained on UTKFace, which is for non-commercial
  research only.
"""


def export_space(folder: str | os.PathLike[str]) -> list[Path]:
    """Write the files of a Space into a folder, and return their paths.

    The folder may be new, empty, a fresh clone of a Space, or one that this function wrote.

    Raises:
        FacegenError: it holds other files, or files that were changed since; or gradio is missing.
    """
    folder, files = Path(folder), space_files()
    if folder.exists() and not folder.is_dir():
        raise FacegenError(f"{folder} is a file; name a folder for the Space")
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        written = path.is_file() and files.get(path.name) == path.read_bytes()
        if path.name not in KEPT and not written:
            raise FacegenError(f"{folder} holds {path.name}, which is not from here; delete it or name another folder")
    paths = [folder / name for name in files]
    for path in paths:
        with atomic_path(path) as temporary:
            temporary.write_bytes(files[path.name])
    return paths


def space_files() -> dict[str, bytes]:
    """Return the files of a Space by name. Its page runs with the gradio that is installed here.

    Raises:
        FacegenError: gradio is missing.
    """
    try:
        gradio = version("gradio")
    except PackageNotFoundError as error:
        raise FacegenError('the page needs gradio: pip install "facegen[app]"') from error
    texts = {
        "README.md": README.format(gradio=gradio, python=PYTHON),
        "requirements.txt": REQUIREMENTS,
        "app.py": APP,
    }
    return {name: text.encode() for name, text in texts.items()}
